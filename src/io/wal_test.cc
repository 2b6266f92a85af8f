#include "io/wal.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "io/wal_format.h"

namespace nbos::io {
namespace {

using raft::Entry;
using raft::GroupWrite;

GroupId group_id(std::uint64_t n) { return GroupId{Uuid{7, n}}; }

// What a group must look like after a restart: computed without any of the code under test.
struct Model {
    ReplicaId self;
    raft::HardState hard_state;
    std::optional<Index> snapshot;
    std::map<Index, std::string> log;
    bool operator==(const Model&) const = default;
};
using Models = std::map<GroupId, Model>;

void note(Models& models, const GroupWrite& write) {
    if (write.remove) {
        models.erase(write.group);
        if (!write.snapshot && !write.hard_state && write.append.empty()) {
            return;
        }
    }
    Model& model = models[write.group];
    model.self = write.self;
    if (write.snapshot) {
        model.snapshot = write.snapshot->index;
        std::erase_if(model.log,
                      [&](const auto& one) { return one.first <= write.snapshot->index; });
    }
    if (write.hard_state) {
        model.hard_state = *write.hard_state;
    }
    for (const auto& entry : write.append) {
        model.log.erase(model.log.lower_bound(entry.index), model.log.end());
        model.log[entry.index] = std::string(entry.data.view());
    }
}

Models models_of(const std::vector<raft::RestoredGroup>& groups) {
    Models models;
    for (const auto& group : groups) {
        Model& model = models[group.group];
        model.self = group.self;
        model.hard_state = group.state.hard_state;
        if (group.state.snapshot) {
            model.snapshot = group.state.snapshot->index;
        }
        for (const auto& entry : group.state.log) {
            model.log[entry.index] = std::string(entry.data.view());
        }
    }
    return models;
}

Entry entry(std::uint64_t index, std::string data, std::uint64_t term = 1) {
    return {.term = Term{term},
            .index = Index{index},
            .kind = raft::EntryKind::kCommand,
            .proposal = {},
            .data = Bytes(std::move(data))};
}

GroupWrite append(std::uint64_t group, std::vector<Entry> entries) {
    GroupWrite write;
    write.group = group_id(group);
    write.self = ReplicaId{group};
    write.append = std::move(entries);
    return write;
}

raft::Snapshot snapshot(std::uint64_t index, std::uint64_t term = 1) {
    return {.index = Index{index},
            .term = Term{term},
            .membership = {},
            .applied_proposals = {},
            .state = Bytes::copy(fmt::format("state at {}", index))};
}

class WalTest : public ::testing::Test {
protected:
    WalTest() : dir_(std::filesystem::temp_directory_path() / ("nbos-wal-" + random_uuid().str())) {
        options_.directory = dir_;
        options_.segment_bytes = 64U << 10U;
    }
    ~WalTest() override {
        wal_.reset();
        std::filesystem::remove_all(dir_);
    }
    // What was restored.
    Models open() {
        wal_.reset();
        auto opened = Wal::open(loop_, options_);
        EXPECT_TRUE(opened) << opened.error().what;
        wal_ = std::move(opened->wal);
        return models_of(opened->groups);
    }
    std::string refusal() {
        wal_.reset();
        auto opened = Wal::open(loop_, options_);
        return opened ? "" : opened.error().what;
    }
    void write(std::vector<GroupWrite> writes) {
        for (const auto& one : writes) {
            note(expected_, one);
        }
        wal_->write(std::move(writes), [this] { loop_.stop(); });
        loop_.run();
    }
    void write(GroupWrite one) { write(std::vector{std::move(one)}); }

    std::vector<std::string> files(const std::string& extension) const {
        std::vector<std::string> names;
        for (const auto& file : std::filesystem::directory_iterator(dir_)) {
            if (file.path().extension() == extension) {
                names.push_back(file.path());
            }
        }
        std::sort(names.begin(), names.end());
        return names;
    }
    static std::string read(const std::string& path) {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    static void overwrite(const std::string& path, const std::string& bytes) {
        std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    }

    std::filesystem::path dir_;
    EventLoop loop_;
    WalOptions options_;
    std::unique_ptr<Wal> wal_;
    Models expected_;
};

TEST_F(WalTest, GivesBackWhatWasWritten) {
    EXPECT_TRUE(open().empty());
    auto first = append(1, {entry(1, "a"), entry(2, "b")});
    first.hard_state = raft::HardState{Term{3}, ReplicaId{9}, Index{1}};
    write({first, append(2, {entry(1, std::string(1'000'000, 'x'))})});
    write(append(1, {entry(2, "B", 2), entry(3, "c", 2)}));
    EXPECT_EQ(open(), expected_);
    write(append(1, {entry(4, "d", 2)}));
    EXPECT_EQ(open(), expected_);
}

TEST_F(WalTest, ASnapshotReplacesWhatItCoversAndOldOnesAreDeleted) {
    open();
    write(append(1, {entry(1, "a"), entry(2, "b"), entry(3, "c")}));
    for (const std::uint64_t index : {1U, 2U}) {
        auto compaction = append(1, {});
        compaction.snapshot = snapshot(index);
        write(compaction);
    }
    EXPECT_EQ(expected_[group_id(1)].log.size(), 1U);
    EXPECT_EQ(open(), expected_);
    EXPECT_EQ(files(".snap").size(), 1U);

    auto install = append(1, {entry(11, "l", 5)});  // of a leader whose log is another
    install.snapshot = snapshot(10, 5);
    write(install);
    EXPECT_EQ(open(), expected_);
}

TEST_F(WalTest, AForeignSnapshotDropsTheEntriesBehindIt) {
    open();
    write(append(1, {entry(1, "a"), entry(2, "b"), entry(3, "c")}));
    auto install = append(1, {});
    install.snapshot = snapshot(2, 4);  // entry 2 here has term 1: entry 3 is of no worth
    write(install);
    expected_[group_id(1)].log.clear();
    EXPECT_EQ(open(), expected_);
}

TEST_F(WalTest, ARemovedGroupStaysAwayAndMayComeBack) {
    open();
    write({append(1, {entry(1, "a")}), append(2, {entry(1, "a")})});
    auto removal = append(1, {});
    removal.remove = true;
    write(removal);
    EXPECT_EQ(open(), expected_);
    write(append(1, {entry(1, "new")}));
    EXPECT_EQ(open(), expected_);
}

TEST_F(WalTest, TwoProcessesCannotShareADirectory) {
    open();
    const auto second = Wal::open(loop_, options_);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::kInvalid);
    EXPECT_NE(second.error().what.find(dir_), std::string::npos);
}

TEST_F(WalTest, OldSegmentsAreUsedAgainAndColdGroupsDoNotPinThem) {
    open();
    write({append(100, {entry(1, "cold")}), append(101, {entry(1, "cold too"), entry(2, "x")})});
    for (std::uint64_t i = 1; i <= 400; ++i) {
        auto hot = append(1, {entry(i, std::string(4096, 'h'))});
        if (i % 10 == 0) {
            hot.snapshot = snapshot(i - 1);
        }
        write(hot);
        if (i == 200) {
            EXPECT_EQ(open(), expected_);
        }
    }
    EXPECT_EQ(open(), expected_);
    std::uintmax_t bytes = 0;
    for (const auto& file : std::filesystem::directory_iterator(dir_)) {
        bytes += file.file_size();
    }
    EXPECT_LT(bytes, 10 * options_.segment_bytes);  // of 1.6 MB written
}

TEST_F(WalTest, RandomWritesAndRestartsMatchAModel) {
    const std::uint64_t seed = random_u64();
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Rng rng(seed);
    std::map<std::uint64_t, std::uint64_t> term;
    EXPECT_EQ(open(), expected_);
    for (int step = 0; step < 1500; ++step) {
        const auto g = 1 + rng.below(rng.chance(0.9) ? 3 : 30);
        const auto& model = expected_[group_id(g)];
        const auto base = model.snapshot ? model.snapshot->value : 0;
        const auto last = model.log.empty() ? base : model.log.rbegin()->first.value;
        if (model.self == ReplicaId{}) {
            expected_.erase(group_id(g));
        }
        auto one = append(g, {});
        if (rng.chance(0.02) && expected_.contains(group_id(g))) {
            one.remove = true;
            term.erase(g);
            write(one);
            continue;
        }
        if (rng.chance(0.2)) {
            one.hard_state =
                raft::HardState{Term{rng.below(9)}, ReplicaId{rng.below(9)}, Index{rng.below(9)}};
        }
        auto from = last + 1;
        if (rng.chance(0.1) && last > base) {
            from = base + 1 + rng.below(last - base);  // a conflicting tail
            ++term[g];
        }
        for (auto n = rng.below(4); n > 0; --n) {
            one.append.push_back(entry(
                from, std::string(rng.below(3000), static_cast<char>('a' + rng.below(26))), 1));
            ++from;
        }
        write(one);
        if (rng.chance(0.1) && last > base && !model.log.empty()) {
            auto compaction = append(g, {});
            const auto& log = expected_[group_id(g)].log;
            compaction.snapshot = snapshot(log.begin()->first.value + rng.below(log.size()));
            write(compaction);
        }
        if (rng.chance(0.02)) {
            ASSERT_EQ(open(), expected_) << "step " << step;
        }
    }
    ASSERT_EQ(open(), expected_);
}

TEST_F(WalTest, EveryPrefixOfAWriteIsEitherTheStateBeforeOrAfterIt) {
    options_.segment_bytes = 8U << 10U;
    open();
    std::vector<Models> states{expected_};
    std::vector<std::size_t> ends{wal::kSegmentHeaderBytes};
    for (std::uint64_t i = 1; i <= 6; ++i) {
        write({append(1, {entry(i, fmt::format("entry {}", i))}),
               append(2, {entry(i, std::string(i * 7, 'z'))})});
        states.push_back(expected_);
    }
    wal_.reset();
    const auto segment = files(".wal").at(0);
    const std::string whole = read(segment);
    const auto used = whole.find_last_not_of('\0') + 1;
    std::size_t known = 0;  // never goes back as more of the file is there
    for (std::size_t size = wal::kSegmentHeaderBytes; size <= used; ++size) {
        std::string torn = whole;
        std::fill(torn.begin() + static_cast<std::ptrdiff_t>(size), torn.end(), '\0');
        overwrite(segment, torn);
        const auto found = std::find(states.begin(), states.end(), open());
        ASSERT_NE(found, states.end()) << "cut at " << size;
        const auto at = static_cast<std::size_t>(found - states.begin());
        ASSERT_GE(at, known) << "cut at " << size;
        known = at;
    }
    EXPECT_EQ(known, states.size() - 1);
}

TEST_F(WalTest, EveryFlippedBitIsRefusedOrCostsOnlyTheLastWrite) {
    options_.segment_bytes = 4U << 10U;
    open();
    Models before_last;
    for (std::uint64_t i = 1; i <= 4; ++i) {
        before_last = expected_;
        write(append(1, {entry(i, fmt::format("entry {}", i))}));
    }
    wal_.reset();
    const auto segment = files(".wal").at(0);
    const std::string whole = read(segment);
    const auto used = whole.find_last_not_of('\0') + 1;
    int refused = 0;
    for (std::size_t at = 0; at < used; ++at) {
        std::string bad = whole;
        bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
        overwrite(segment, bad);
        auto opened = Wal::open(loop_, options_);
        if (!opened) {
            ++refused;
            EXPECT_NE(opened.error().what.find("0000000000000001.wal is damaged at offset"),
                      std::string::npos)
                << opened.error().what;
            continue;
        }
        const auto got = models_of(opened->groups);
        // Padding between batches carries nothing; the last batch may look torn.
        ASSERT_TRUE(got == expected_ || got == before_last) << "flipped at " << at;
    }
    EXPECT_GT(refused, 100);
}

TEST_F(WalTest, DamageInAnEarlierSegmentIsRefusedWithFileAndOffset) {
    options_.segment_bytes = 8U << 10U;
    open();
    for (std::uint64_t i = 1; i <= 30; ++i) {
        write(append(1, {entry(i, std::string(1000, 'x'))}));
    }
    wal_.reset();
    const auto segments = files(".wal");
    ASSERT_GT(segments.size(), 2U);
    // The last batch of the first segment: nothing behind it in that file.
    const std::string whole = read(segments[0]);
    std::string bad = whole;
    bad[bad.find_last_of('x')] = 'y';
    overwrite(segments[0], bad);
    EXPECT_NE(refusal().find("0000000000000001.wal is damaged at offset"), std::string::npos);
    overwrite(segments[0], whole);
    std::filesystem::rename(segments[1], segments[1] + ".away");
    EXPECT_NE(refusal().find("0000000000000002.wal"), std::string::npos);
    std::filesystem::rename(segments[1] + ".away", segments[1]);
    EXPECT_EQ(open(), expected_);
}

TEST_F(WalTest, ADamagedSnapshotIsRefusedByName) {
    open();
    auto first = append(1, {});
    first.snapshot = snapshot(5);
    write(first);
    wal_.reset();
    const auto file = files(".snap").at(0);
    std::string bad = read(file);
    bad.back() ^= 1;
    overwrite(file, bad);
    EXPECT_NE(refusal().find(".snap is damaged"), std::string::npos);
}

TEST_F(WalTest, RandomBytesNeverCrashTheReader) {
    const std::uint64_t seed = random_u64();
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Rng rng(seed);
    options_.segment_bytes = 4U << 10U;
    open();
    write({append(1, {entry(1, "abc")}), append(2, {entry(1, "def")})});
    wal_.reset();
    const auto segment = files(".wal").at(0);
    const std::string whole = read(segment);
    for (int round = 0; round < 200; ++round) {
        std::string bad = whole;
        for (auto n = 1 + rng.below(20); n > 0; --n) {
            bad[rng.below(400)] = static_cast<char>(rng.below(256));
        }
        overwrite(segment, bad);
        const auto opened = Wal::open(loop_, options_);
    }
    for (int round = 0; round < 2000; ++round) {
        std::string record;
        for (auto n = rng.below(120); n > 0; --n) {
            record.push_back(static_cast<char>(rng.below(n == 1 ? 256 : 6)));
        }
        Reader in(record);
        while (in.left() > 0 && wal::decode_record(in)) {
        }
    }
}

class FailingDisk : public WalTest,
                    public ::testing::WithParamInterface<std::pair<const char*, int>> {};

TEST_P(FailingDisk, IsFatalAndNothingIsReportedDurable) {
    std::atomic<bool> failing = false;
    std::atomic<bool> durable = false;
    std::string fatal;
    options_.fault = [&](std::string_view operation) {
        return failing && operation == GetParam().first ? GetParam().second : 0;
    };
    options_.on_fatal = [&](const std::string& what) {
        fatal = what;
        loop_.stop();
    };
    open();
    write(append(1, {entry(1, "a")}));
    const Models before = expected_;
    failing = true;
    auto bad = append(1, {entry(2, "b")});
    bad.snapshot = snapshot(1);
    note(expected_, bad);
    wal_->write({bad}, [&] { durable = true; });
    loop_.run();
    wal_->write({append(1, {entry(3, "c")})}, [&] { durable = true; });
    wal_.reset();
    loop_.post([&] { loop_.stop(); });
    loop_.run();
    EXPECT_FALSE(durable);
    EXPECT_NE(fatal.find("this process stops"), std::string::npos);
    EXPECT_NE(fatal.find(std::strerror(GetParam().second)), std::string::npos) << fatal;
    failing = false;
    const auto after = open();  // the write may or may not have happened
    EXPECT_TRUE(after == before || after == expected_);
}

INSTANTIATE_TEST_SUITE_P(Wal, FailingDisk,
                         ::testing::Values(std::pair("write", ENOSPC), std::pair("write", EIO),
                                           std::pair("fdatasync", EIO), std::pair("make", ENOSPC)));

}  // namespace
}  // namespace nbos::io
