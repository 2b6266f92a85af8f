// What clients of a cluster did and were told, and how often user code began: the records that
// history_checker.h judges. Simulated clients write them, and so can clients of real processes:
// one JSON object a line, fields that are empty or zero left out.
//
// Kinds    asked         `client` sent request `msg` (again, when it did so before): `op`, `name`,
//                        `tag` say what the cell does (below)
//          heard         `client` received `type` in answer to request `msg` of `asker`: `state` is
//                        the execution_state or the status, `speaker` the kernel's session id,
//                        `text` that of a stream, or an error's evalue
//          began         user code of (`asker`, `msg`) began in process `who`: a ledger kept
//                        outside of everything that is replicated
//          connected     a WebSocket of `client` to the gateway `who` opened: what was under way
//                        before may be lost. `state` is "unnamed" when it has named no session id
//          gateway_gone  the gateway `who` lost its memory: what it said may be said again
//          broke         something happened to the hosts, or between them and the gateways: what
//                        gateways have told them of their clients may be lost
//          mended        one of these is over
//          restarted     somebody asked for a restart of the kernel
//          healed        the last fault is over
//          finished      nobody waits any more: what has no answer by now never gets one
// Ops      append  puts `tag` at the end of the list `name`    add  counts `name` up by one
//          fail    appends, then raises UserError              read  shows everything
//          die     ends its own process                        ask   no cell: a question
//          input   asks on stdin, and appends when it has an answer
//          comm    no cell: a message that has no reply, and may have effects
// Texts    A cell prints "by WHO" first, and "holds NAME=VALUE ..." (a number, or tags between
//          commas) when it is done; a read prints "holds-all NAME=VALUE ...".
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nbos::testing {

struct Record {
    std::uint64_t at_ms = 0;
    std::string kind;
    std::string kernel;
    std::string client;  // the Jupyter session id of who asked or heard
    std::string msg;
    std::string op;
    std::string name;
    std::string tag;
    std::string asker;
    std::string speaker;
    std::string type;
    std::string state;
    std::string ename;
    std::string text;
    std::string who;
    std::uint64_t count = 0;  // the execution count that was shown
};

using History = std::vector<Record>;

std::string to_json_line(const Record& record);
// nullopt: not one JSON object.
std::optional<Record> record_from_json(std::string_view line);
// Empty lines are passed over; the number of the first bad line, counted from 1, is the error.
struct ReadHistory {
    History history;
    std::size_t bad_line = 0;  // 0: none
};
ReadHistory read_history(std::istream& in);

}  // namespace nbos::testing
