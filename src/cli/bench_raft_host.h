// One of the three processes of `nbos bench raft`.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/pki.h"
#include "model/ids.h"

namespace nbos::cli {

struct BenchHost {
    std::uint32_t number = 0;  // 1, 2 or 3
    std::string directory;
    io::TlsFiles tls;
    std::map<HostId, std::string> addresses;  // of all three
    std::uint32_t groups = 1;
    std::uint32_t bytes = 0;
    std::uint32_t depth = 1;
    std::uint32_t seconds = 0;
    int from_parent = -1;  // a byte: go; end of file: stop
    int to_parent = -1;    // a byte: ready; then u64 count and as many u32: microseconds / 10
};

// Runs until `from_parent` ends. The exit code.
int run_bench_host(const BenchHost& host);

}  // namespace nbos::cli
