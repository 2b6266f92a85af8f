// The decoders that hear strangers, each as a function from bytes: shared by the libFuzzer programs
// and by the test that feeds them mutations on every run.
//
// A target returns nothing: it must not crash, read outside its input, hang, or allocate much more
// than the input is long. What decodes must encode and decode again to the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nbos::fuzz {

void decode_jupyter_message(std::string_view bytes);
void parse_jupyter_header(std::string_view bytes);
void parse_connection_file(std::string_view bytes);
void decode_signed_frames(std::string_view bytes);  // of ZeroMQ, each after its length (u16 LE)
void decode_cell_entry(std::string_view bytes);
void decode_rpc(std::string_view bytes);
void decode_raft_message(std::string_view bytes);
void decode_raft_snapshot(std::string_view bytes);
void apply_state_delta(std::string_view bytes);
void restore_cell_machine(std::string_view bytes);
void decode_table_write(std::string_view bytes);
void restore_table_machine(std::string_view bytes);
void apply_cell_entry(std::string_view bytes);  // to a machine in the middle of a cell

// face_targets.cc: what clients send
void decode_ws(std::string_view bytes);
void feed_websocket(std::string_view bytes);
void parse_http_target(std::string_view bytes);
void handle_http_body(std::string_view bytes);
void speak_to_gateway(std::string_view bytes);
void tell_gateway(std::string_view bytes);
void take_json_apart(std::string_view bytes);
void decode_table_rows(std::string_view bytes);
void decode_zmq_frames(std::string_view bytes);

// disk_targets.cc: what lies on disks
void decode_wal_record(std::string_view bytes);
void decode_snapshot_file(std::string_view bytes);
void recover_wal(std::string_view bytes);

struct Target {
    const char* name;
    void (*run)(std::string_view);
    std::vector<std::string> (*examples)();  // valid inputs to start from
    std::uint64_t cost = 1;                  // of one run, beside that of a small decoder
};
// The examples, and what fuzzing has found worth keeping (tests/fuzz/corpus, a line of base64
// each).
std::vector<std::string> known_inputs(const Target& target);
const std::vector<Target>& wire_targets();
const std::vector<Target>& face_targets();
const std::vector<Target>& disk_targets();

}  // namespace nbos::fuzz
