// A process that is killed while it writes: everything it said was durable is there afterwards.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>

#include "io/wal.h"

namespace nbos::io {
namespace {

constexpr std::uint64_t kGroups = 4;

struct Report {
    std::uint64_t group = 0;
    std::uint64_t index = 0;
};

std::string content(std::uint64_t group, std::uint64_t index) {
    return std::string(1 + (group * 131 + index * 17) % 3000, static_cast<char>('a' + index % 26));
}

WalOptions options(const std::string& directory) {
    WalOptions given;
    given.directory = directory;
    given.segment_bytes = 128U << 10U;
    return given;
}

// Writes until it is killed; says on `pipe` what is durable. Several writes are in flight.
[[noreturn]] void write_for_ever(const std::string& directory, int pipe) {
    EventLoop loop;
    auto opened = Wal::open(loop, options(directory));
    if (!opened) {
        _exit(1);
    }
    std::map<std::uint64_t, std::uint64_t> last;
    for (const auto& group : opened->groups) {
        const auto& state = group.state;
        last[group.group.value.lo] = !state.log.empty() ? state.log.back().index.value
                                     : state.snapshot   ? state.snapshot->index.value
                                                        : 0;
    }
    std::function<void(std::uint64_t)> next = [&](std::uint64_t group) {
        const auto index = ++last[group];
        raft::GroupWrite write;
        write.group = GroupId{Uuid{0, group}};
        write.self = ReplicaId{group};
        write.append.push_back({.term = Term{1},
                                .index = Index{index},
                                .kind = raft::EntryKind::kCommand,
                                .proposal = {},
                                .data = Bytes(content(group, index))});
        if (index % 50 == 0) {
            raft::GroupWrite compaction;
            compaction.group = write.group;
            compaction.self = write.self;
            compaction.snapshot = raft::Snapshot{.index = Index{index - 10},
                                                 .term = Term{1},
                                                 .membership = {},
                                                 .applied_proposals = {},
                                                 .state = Bytes::copy("state")};
            opened->wal->write({std::move(compaction)}, {});
        }
        opened->wal->write({std::move(write)}, [&next, group, index, pipe] {
            const Report report{.group = group, .index = index};
            if (::write(pipe, &report, sizeof report) != sizeof report) {
                _exit(1);
            }
            next(group);
        });
    };
    for (std::uint64_t group = 1; group <= kGroups; ++group) {
        next(group);
    }
    loop.run();
    _exit(0);
}

std::map<std::uint64_t, std::uint64_t> run_and_kill(const std::string& directory,
                                                    useconds_t after) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        write_for_ever(directory, ends[1]);
    }
    close(ends[1]);
    std::map<std::uint64_t, std::uint64_t> durable;
    Report report;
    bool first = true;
    while (read(ends[0], &report, sizeof report) == sizeof report) {
        durable[report.group] = report.index;
        if (first) {
            first = false;
            usleep(after);
            kill(child, SIGKILL);
        }
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    return durable;
}

TEST(WalCrash, NothingThatWasReportedDurableIsLostByKills) {
    const auto directory =
        (std::filesystem::temp_directory_path() / ("nbos-crash-" + random_uuid().str())).string();
    const std::uint64_t seed = random_u64();
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Rng rng(seed);
    std::map<std::uint64_t, std::uint64_t> durable;
    for (int round = 0; round < 12; ++round) {
        for (const auto& [group, index] :
             run_and_kill(directory, static_cast<useconds_t>(rng.below(40'000)))) {
            durable[group] = index;
        }
        EventLoop loop;
        const auto opened = Wal::open(loop, options(directory));
        ASSERT_TRUE(opened) << opened.error().what;
        for (const auto& group : opened->groups) {
            const auto id = group.group.value.lo;
            const auto& log = group.state.log;
            const auto base = group.state.snapshot ? group.state.snapshot->index.value : 0;
            ASSERT_GE(base + log.size(), durable[id]) << "group " << id << " round " << round;
            for (const auto& entry : log) {
                ASSERT_EQ(entry.data.view(), content(id, entry.index.value));
            }
        }
        ASSERT_EQ(opened->groups.size(), kGroups);
    }
    std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace nbos::io
