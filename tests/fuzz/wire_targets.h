// The decoders that hear strangers, each as a function from bytes: shared by the libFuzzer programs
// and by the test that feeds them mutations on every run.
//
// A target returns nothing: it must not crash, read outside its input, hang, or allocate much more
// than the input is long. What decodes must encode and decode again to the same bytes.
#pragma once

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
void apply_cell_entry(std::string_view bytes);  // to a machine in the middle of a cell

struct Target {
    const char* name;
    void (*run)(std::string_view);
    std::vector<std::string> (*examples)();  // valid inputs to start from
};
const std::vector<Target>& targets();

}  // namespace nbos::fuzz
