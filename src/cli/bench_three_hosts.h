// Three hosts of a benchmark, a process each, with certificates of an authority of their own.
//
// `Host` has number, tls, directory, addresses, from_parent and to_parent; the rest is the
// caller's.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "cli/bench_processes.h"
#include "io/pki.h"
#include "model/ids.h"

namespace nbos::cli {

constexpr std::uint32_t kBenchHosts = 3;

template <class Host>
Status fork_three_hosts(BenchProcesses& processes, const std::string& directory, Host host,
                        int (*run)(const Host&)) {
    const std::string pki = directory + "/pki";
    if (auto made = io::ensure_authority(pki); !made) {
        return made;
    }
    const auto name = [](std::uint32_t n) { return fmt::format("host-{}", n); };
    for (std::uint32_t n = 1; n <= kBenchHosts; ++n) {
        host.addresses[HostId{name(n)}] = free_loopback_address();
    }
    for (std::uint32_t n = 1; n <= kBenchHosts; ++n) {
        auto tls = io::issue(pki, name(n));
        if (!tls) {
            return std::move(tls).error();
        }
        host.number = n;
        host.tls = *tls;
        host.directory = fmt::format("{}/log-{}", directory, n);
        std::filesystem::remove_all(host.directory);
        processes.fork([&host, run](int from_parent, int to_parent) {
            host.from_parent = from_parent;
            host.to_parent = to_parent;
            return run(host);
        });
    }
    return ok();
}

}  // namespace nbos::cli
