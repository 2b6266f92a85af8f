// The order of answers, per listening client and request: a part of the history checker.
//
// A client hears of a request, its own or another client's, in rounds: busy, outputs, the reply
// (only who asked), idle. A second round is due only to a request that was asked again. What came
// before a connection opened may be missing, so the first message after that sets the place.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/cluster/history.h"
#include "tests/cluster/history_checker.h"

namespace nbos::testing {

class AnswerChecker {
public:
    void read(const Record& record);
    std::vector<BrokenRule> finish();

private:
    enum Place : std::uint8_t { kNothing, kBusy, kOutput, kReply, kIdle };
    struct Track {
        Place place = kNothing;
        bool anew = true;  // nothing of it was heard since the connection opened
        std::size_t rounds = 0;
        std::size_t life = 0;  // of the gateway that it was last heard from
        bool gap = false;      // of this round something may be missing
    };
    struct Request {
        std::string op;
        std::size_t asked = 0;
        std::size_t connection = 0;  // of its client, when it was first asked
        std::size_t replies = 0;
        std::size_t idles = 0;
        std::size_t busies = 0;
    };

    static Place place_of(const Record& record);
    void hear_cell(const Record& record, const std::string& key, Request& request);
    void hear_question(const Record& record, const std::string& key, Request& request);
    void say(const std::string& what, const Record& record);

    std::map<std::string, Request> requests_;
    std::map<std::pair<std::string, std::string>, Track> tracks_;  // listener, request
    std::map<std::string, std::size_t> connections_;
    std::map<std::string, std::size_t> lives_;  // of the gateway that a client is connected to
    std::size_t gateways_ = 0;
    bool finished_ = false;
    std::vector<BrokenRule> broken_;
};

}  // namespace nbos::testing
