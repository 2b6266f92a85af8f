#include "cli/bench_raft.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "cli/bench_processes.h"
#include "cli/bench_raft_host.h"
#include "cli/bench_three_hosts.h"
#include "cli/complaint.h"
#include "io/event_loop.h"
#include "io/wal_files.h"

namespace nbos::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr double kMsPerSample = 0.01;  // samples count tens of microseconds

struct Row {
    std::uint32_t bytes = 0;
    std::uint32_t groups = 0;
    double commits_per_s = 0;
    double p50_ms = 0;
    double p99_ms = 0;
    double fdatasync_p50_ms = 0;
    double ratio_p50() const { return p50_ms / fdatasync_p50_ms; }
};

double quantile(std::vector<std::uint32_t>& sorted, double at) {
    if (sorted.empty()) {
        return 0;
    }
    const auto index = static_cast<std::size_t>(at * static_cast<double>(sorted.size() - 1));
    return sorted[index] * kMsPerSample;
}

// One write and fdatasync after the other for a second: what the disk itself costs.
Result<double> disk_p50(const std::string& directory, std::uint32_t bytes) {
    constexpr std::uint64_t kFileBytes = 64U << 20U;
    auto file = io::wal::File::make(directory + "/disk", kFileBytes, io::wal::Zeros::kNow, {});
    if (!file) {
        return std::move(file).error();
    }
    // Into memory: a write into a page that is not there would first read it.
    if (auto warm = file->read(0, kFileBytes); !warm) {
        return std::move(warm).error();
    }
    const std::string data(bytes, 'x');
    std::vector<std::uint32_t> samples;
    const auto end = SteadyClock::now() + std::chrono::seconds(1);
    std::uint64_t at = 0;
    while (SteadyClock::now() < end) {
        const auto start = SteadyClock::now();
        auto done = file->write(at, data, {});
        if (done) {
            done = file->sync({});
        }
        if (!done) {
            return std::move(done).error();
        }
        at = at + 2 * bytes > kFileBytes ? 0 : at + bytes;
        const auto took =
            std::chrono::duration_cast<std::chrono::microseconds>(SteadyClock::now() - start);
        samples.push_back(static_cast<std::uint32_t>(took.count()));
    }
    unlink(file->path().c_str());
    std::sort(samples.begin(), samples.end());
    return quantile(samples, 0.5) / 10;  // these count microseconds
}

// The three processes of one row.
class Hosts {
public:
    explicit Hosts(const BenchRaftOptions& options) : options_(options) {}

    Status start(const std::string& directory, std::uint32_t bytes, std::uint32_t groups);
    // All latencies, sorted; nullopt: a process has ended.
    std::optional<std::vector<std::uint32_t>> measure();

private:
    const BenchRaftOptions& options_;
    BenchProcesses children_;
};

Status Hosts::start(const std::string& directory, std::uint32_t bytes, std::uint32_t groups) {
    BenchHost host;
    host.groups = groups;
    host.bytes = bytes;
    host.depth = options_.depth;
    host.seconds = options_.seconds;
    return fork_three_hosts(children_, directory, host, run_bench_host);
}

std::optional<std::vector<std::uint32_t>> Hosts::measure() {
    char byte = 0;
    for (std::size_t n = 0; n < children_.size(); ++n) {
        if (!children_.read(n, &byte, 1)) {
            return std::nullopt;
        }
    }
    for (std::size_t n = 0; n < children_.size(); ++n) {
        if (!children_.write(n, 'g')) {
            return std::nullopt;
        }
    }
    std::vector<std::uint32_t> all;
    for (std::size_t n = 0; n < children_.size(); ++n) {
        std::uint64_t count = 0;
        if (!children_.read(n, &count, sizeof count)) {
            return std::nullopt;
        }
        const auto before = all.size();
        all.resize(before + count);
        if (!children_.read(n, all.data() + before, count * sizeof(std::uint32_t))) {
            return std::nullopt;
        }
    }
    std::sort(all.begin(), all.end());
    return all;
}

Result<Row> run_row(const BenchRaftOptions& options, const std::string& directory,
                    std::uint32_t bytes, std::uint32_t groups) {
    const auto disk = disk_p50(directory, bytes);
    if (!disk) {
        return disk.error();
    }
    Hosts hosts(options);
    if (auto started = hosts.start(directory, bytes, groups); !started) {
        return std::move(started).error();
    }
    auto latencies = hosts.measure();
    if (!latencies) {
        return Error{.code = Errc::kIo,
                     .what = "a process of the benchmark ended early; its reason stands above"};
    }
    return Row{.bytes = bytes,
               .groups = groups,
               .commits_per_s = static_cast<double>(latencies->size()) / options.seconds,
               .p50_ms = quantile(*latencies, 0.50),
               .p99_ms = quantile(*latencies, 0.99),
               .fdatasync_p50_ms = *disk};
}

void print_json(const std::vector<Row>& rows, std::uint32_t depth) {
    std::string list;
    for (const auto& row : rows) {
        list += fmt::format(
            R"({}{{"bytes":{},"groups":{},"depth":{},"commits_per_s":{:.0f},"p50_ms":{:.3f},)"
            R"("p99_ms":{:.3f},"fdatasync_p50_ms":{:.3f},"ratio_p50":{:.2f}}})",
            list.empty() ? "" : ",", row.bytes, row.groups, depth, row.commits_per_s, row.p50_ms,
            row.p99_ms, row.fdatasync_p50_ms, row.ratio_p50());
    }
    fmt::print("{{\"bench\":\"raft\",\"rows\":[{}]}}\n", list);
}

}  // namespace

int bench_raft(const BenchRaftOptions& options) {
    const std::string directory = options.directory.empty()
                                      ? "nbos-bench-" + io::random_uuid().str().substr(0, 8)
                                      : options.directory;
    std::error_code failure;
    const bool existed = std::filesystem::exists(directory, failure);
    std::filesystem::create_directories(directory, failure);
    if (failure || options.seconds == 0 || options.depth == 0) {
        return complain({Errc::kInvalid, Certainty::kDidNotHappen,
                         failure ? fmt::format("cannot make {}: {}", directory, failure.message())
                                 : "--seconds and --depth must be at least 1"});
    }
    fmt::print("{:>8} {:>7} {:>12} {:>9} {:>9} {:>13} {:>9}\n", "bytes", "groups", "commits/s",
               "p50 ms", "p99 ms", "fdatasync ms", "ratio");
    std::vector<Row> rows;
    int code = 0;
    for (const auto bytes : options.bytes) {
        for (const auto groups : options.groups) {
            const auto row = run_row(options, directory, bytes, groups);
            if (!row) {
                code = complain(row.error());
                break;
            }
            rows.push_back(*row);
            fmt::print("{:>8} {:>7} {:>12.0f} {:>9.3f} {:>9.3f} {:>13.3f} {:>9.2f}\n", row->bytes,
                       row->groups, row->commits_per_s, row->p50_ms, row->p99_ms,
                       row->fdatasync_p50_ms, row->ratio_p50());
            std::fflush(stdout);
        }
    }
    for (const char* part : {"/log-1", "/log-2", "/log-3", "/pki", "/disk"}) {
        std::filesystem::remove_all(directory + part, failure);
    }
    if (!existed) {
        std::filesystem::remove(directory, failure);
    }
    if (options.json && code == 0) {
        print_json(rows, options.depth);
    }
    return code;
}

}  // namespace nbos::cli
