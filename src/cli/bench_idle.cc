#include "cli/bench_idle.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "base/result.h"
#include "cli/bench_idle_host.h"
#include "cli/bench_processes.h"
#include "cli/bench_three_hosts.h"
#include "cli/complaint.h"
#include "io/event_loop.h"

namespace nbos::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::minutes kPatience{3};

struct Figures {
    double cpu_percent = 0;  // of one core, all three together
    std::uint64_t frames = 0;
    std::uint64_t bytes = 0;
    std::uint64_t anonymous_per_group = 0;  // on the host where it is most
    std::uint64_t heap_per_group = 0;
    std::size_t asked_to_wake = 0;
    std::size_t woken = 0;
    double wake_p50_ms = 0;
    double wake_p99_ms = 0;
    std::uint32_t reelected = 0;
    double reelected_s = 0;
};

Error ended() {
    return {.code = Errc::kIo,
            .what = "a process of the benchmark ended early; its reason stands above"};
}

class Bench {
public:
    explicit Bench(const BenchIdleOptions& options) : options_(options) {}
    Result<Figures> run(const std::string& directory);

private:
    using Reports = std::vector<IdleReport>;

    Status start(const std::string& directory);
    Result<Reports> ask(IdleCommand command);
    // Asks until it is so. kTimeout, with `what` it waited for.
    Result<Reports> until(const std::string& what, const std::function<bool(const Reports&)>& so);
    Result<Reports> until_asleep();
    Status leave_alone(Figures& figures);
    Status wake(Figures& figures);
    Status lose_a_host(Figures& figures);

    const BenchIdleOptions& options_;
    BenchProcesses hosts_;
};

Status Bench::start(const std::string& directory) {
    return fork_three_hosts(hosts_, directory,
                            BenchIdleHost{.groups = options_.groups, .wakes = options_.wakes},
                            run_idle_host);
}

Result<Bench::Reports> Bench::ask(IdleCommand command) {
    for (std::size_t n = 0; n < hosts_.size(); ++n) {
        if (hosts_.alive(n) && !hosts_.write(n, static_cast<char>(command))) {
            return ended();
        }
    }
    Reports reports;
    for (std::size_t n = 0; n < hosts_.size(); ++n) {
        if (hosts_.alive(n) && !hosts_.read(n, &reports.emplace_back(), sizeof(IdleReport))) {
            return ended();
        }
    }
    return reports;
}

Result<Bench::Reports> Bench::until(const std::string& what,
                                    const std::function<bool(const Reports&)>& so) {
    const auto end = SteadyClock::now() + kPatience;
    while (SteadyClock::now() < end) {
        auto reports = ask(IdleCommand::kReport);
        if (!reports || so(*reports)) {
            return reports;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return Error{
        .code = Errc::kTimeout,
        .what = fmt::format("{} did not happen within {} minutes", what, kPatience.count())};
}

Result<Bench::Reports> Bench::until_asleep() {
    return until("that all groups serve and sleep", [this](const Reports& reports) {
        return std::all_of(reports.begin(), reports.end(), [this](const IdleReport& r) {
            return r.groups == options_.groups && r.awake == 0 && r.restless == 0;
        });
    });
}

Status Bench::leave_alone(Figures& figures) {
    const auto before = ask(IdleCommand::kReport);
    const auto begun = SteadyClock::now();
    std::this_thread::sleep_for(std::chrono::seconds(options_.seconds));
    const auto after = ask(IdleCommand::kReport);
    if (!before || !after) {
        return ended();
    }
    const std::chrono::duration<double, std::micro> took = SteadyClock::now() - begun;
    double cpu = 0;
    for (std::size_t n = 0; n < before->size(); ++n) {
        cpu += static_cast<double>((*after)[n].cpu_us - (*before)[n].cpu_us);
        figures.frames += (*after)[n].frames - (*before)[n].frames;
        figures.bytes += (*after)[n].bytes - (*before)[n].bytes;
    }
    figures.cpu_percent = 100 * cpu / took.count();
    return ok();
}

Status Bench::wake(Figures& figures) {
    std::vector<std::uint32_t> all;
    for (std::size_t n = 0; n < hosts_.size(); ++n) {  // one host after the other
        std::uint64_t asked = 0;
        std::uint64_t count = 0;
        IdleReport ignored;
        if (!hosts_.write(n, static_cast<char>(IdleCommand::kWake)) ||
            !hosts_.read(n, &asked, sizeof asked) || !hosts_.read(n, &count, sizeof count)) {
            return ended();
        }
        figures.asked_to_wake += asked;
        const auto before = all.size();
        all.resize(before + count);
        if (!hosts_.read(n, all.data() + before, count * sizeof(std::uint32_t)) ||
            !hosts_.read(n, &ignored, sizeof ignored)) {
            return ended();
        }
    }
    std::sort(all.begin(), all.end());
    const auto at = [&](double part) {
        const auto index = static_cast<std::size_t>(part * static_cast<double>(all.size() - 1));
        return all.empty() ? 0.0 : all[index] / 1000.0;
    };
    figures.woken = all.size();
    figures.wake_p50_ms = at(0.5);
    figures.wake_p99_ms = at(0.99);
    return ok();
}

Status Bench::lose_a_host(Figures& figures) {
    if (auto asleep = until_asleep(); !asleep) {
        return std::move(asleep).error();
    }
    hosts_.kill(0);
    const auto begun = SteadyClock::now();
    const auto led = [](const Reports& reports) {
        std::uint32_t sum = 0;
        for (const auto& report : reports) {
            sum += report.leading;
        }
        return sum;
    };
    const auto reports = until("that all groups have a leader again",
                               [&](const Reports& r) { return led(r) == options_.groups; });
    if (!reports) {
        return reports.error();
    }
    figures.reelected = led(*reports);
    figures.reelected_s = std::chrono::duration<double>(SteadyClock::now() - begun).count();
    return ok();
}

Result<Figures> Bench::run(const std::string& directory) {
    if (auto started = start(directory); !started) {
        return std::move(started).error();
    }
    const auto empty = until("that the hosts are linked", [](const Reports& reports) {
        return std::all_of(reports.begin(), reports.end(),
                           [](const IdleReport& r) { return r.linked == kBenchHosts - 1; });
    });
    if (!empty) {
        return empty.error();
    }
    if (const auto created = ask(IdleCommand::kCreate); !created) {
        return created.error();
    }
    const auto asleep = until_asleep();
    if (!asleep) {
        return asleep.error();
    }
    Figures figures;
    for (std::size_t n = 0; n < asleep->size(); ++n) {
        const auto share = [&](std::uint64_t IdleReport::* what) {
            const auto now = (*asleep)[n].*what;
            return (now - std::min(now, (*empty)[n].*what)) / options_.groups;
        };
        figures.anonymous_per_group =
            std::max(figures.anonymous_per_group, share(&IdleReport::anonymous_bytes));
        figures.heap_per_group = std::max(figures.heap_per_group, share(&IdleReport::heap_bytes));
    }
    for (auto step : {&Bench::leave_alone, &Bench::wake, &Bench::lose_a_host}) {
        if (auto done = (this->*step)(figures); !done) {
            return std::move(done).error();
        }
    }
    return figures;
}

void print(const Figures& f, const BenchIdleOptions& options) {
    const auto line = [](const char* what, const std::string& figure, const char* aim) {
        fmt::print("{:<58} {:>16}   {}\n", what, figure, aim);
    };
    fmt::print("{} idle groups on three agents, {} s\n", options.groups, options.seconds);
    line("processor time of all three, of one core", fmt::format("{:.2f} %", f.cpu_percent),
         "aim: below 1 % an agent");
    line("Raft frames sent", std::to_string(f.frames), "aim: 0");
    line("Raft bytes sent", std::to_string(f.bytes), "aim: 0");
    line("anonymous memory, a group and agent",
         fmt::format("{:.1f} KB", static_cast<double>(f.anonymous_per_group) / 1000),
         "aim: below 20 KB");
    line("of it heap in use",
         fmt::format("{:.1f} KB", static_cast<double>(f.heap_per_group) / 1000), "");
    line("a cell in a sleeping kernel, request to user code, p50",
         fmt::format("{:.2f} ms", f.wake_p50_ms), "");
    line("the same, p99", fmt::format("{:.2f} ms", f.wake_p99_ms), "");
    line("a host killed: groups with a leader",
         fmt::format("{} in {:.2f} s", f.reelected, f.reelected_s), "aim: all");
}

void print_json(const Figures& f, const BenchIdleOptions& options) {
    fmt::print(
        R"({{"bench":"idle","groups":{},"seconds":{},"cpu_percent":{:.3f},"frames":{},"bytes":{},)"
        R"("anonymous_bytes_per_group":{},"heap_bytes_per_group":{},"asked_to_wake":{},"woken":{},)"
        R"("wake_p50_ms":{:.3f},"wake_p99_ms":{:.3f},"reelected":{},"reelected_s":{:.3f}}})"
        "\n",
        options.groups, options.seconds, f.cpu_percent, f.frames, f.bytes, f.anonymous_per_group,
        f.heap_per_group, f.asked_to_wake, f.woken, f.wake_p50_ms, f.wake_p99_ms, f.reelected,
        f.reelected_s);
}

}  // namespace

int bench_idle(const BenchIdleOptions& options) {
    const std::string directory = options.directory.empty()
                                      ? "nbos-bench-" + io::random_uuid().str().substr(0, 8)
                                      : options.directory;
    std::error_code failure;
    const bool existed = std::filesystem::exists(directory, failure);
    std::filesystem::create_directories(directory, failure);
    if (failure || options.groups == 0) {
        return complain({Errc::kInvalid, Certainty::kDidNotHappen,
                         failure ? fmt::format("cannot make {}: {}", directory, failure.message())
                                 : "--groups must be at least 1"});
    }
    Result<Figures> figures = ended();
    {
        Bench bench(options);
        figures = bench.run(directory);
    }
    for (const char* part : {"/log-1", "/log-2", "/log-3", "/pki"}) {
        std::filesystem::remove_all(directory + part, failure);
    }
    if (!existed) {
        std::filesystem::remove(directory, failure);
    }
    if (!figures) {
        return complain(figures.error());
    }
    print(*figures, options);
    if (options.json) {
        print_json(*figures, options);
    }
    return 0;
}

}  // namespace nbos::cli
