// Reset, and rule 12: snapshots carry it all.
#include "replica/cell_machine.h"
#include "tests/support/machine_test.h"

namespace nbos::replica {
namespace {

TEST_F(MachineTest, ASubmitFromBeforeARestartEndsAtOnceAndNeverRuns) {
    apply(Reset{"s2"});
    auto late = Submit{"client", "m1", true, true, {}, 0};
    EXPECT_EQ(only<CellEnded>(apply(late)).ending, Ending::kCancelled);
    late.incarnation = 1;
    EXPECT_EQ(only<SubmitRepeated>(apply(late)).finished->ending, Ending::kCancelled);
    only<CellQueued>(apply(Submit{"client", "m2", true, true, {}, 1}));
    only<CellQueued>(apply(Submit{"client", "m3", true, true, {}}));
}

TEST_F(MachineTest, AResetInMidCellEndsEverythingAndEmptiesTheState) {
    run("m1", Delta().put("x", "1").str());
    submit("m2");
    submit("m3");
    claim(kA);
    const auto late = result(Delta().put("y", "1").str());
    const auto events = apply(Reset{"s2"});
    const auto ended = all<CellEnded>(events);
    ASSERT_EQ(ended.size(), 2U);
    EXPECT_EQ(ended[0].cell.number, CellNumber{2});
    EXPECT_EQ(ended[0].ending, Ending::kReset);
    EXPECT_EQ(ended[0].executor, kA);
    EXPECT_EQ(ended[1].cell.number, CellNumber{3});
    EXPECT_EQ(ended[1].ending, Ending::kCancelled);
    ASSERT_EQ(all<WasReset>(events).size(), 1U);
    EXPECT_EQ(machine_.session(), "s2");
    EXPECT_EQ(machine_.incarnation(), 1U);
    EXPECT_TRUE(machine_.table().entries().empty());
    EXPECT_EQ(machine_.sequence(), Sequence{2});
    EXPECT_FALSE(machine_.standing());
    EXPECT_TRUE(is_void(late));
    EXPECT_EQ(only<CellQueued>(submit("m4")).cell, CellNumber{4});
}

TEST_F(MachineTest, ARepeatedOrLateResetIsVoid) {
    only<WasReset>(apply(Reset{"s2"}));
    EXPECT_TRUE(is_void(Reset{"s2"}));
    only<WasReset>(apply(Reset{"s3"}));
    EXPECT_TRUE(is_void(Reset{"s2"}));
    EXPECT_TRUE(is_void(Reset{"s1"}));
    EXPECT_TRUE(is_void(Reset{""}));
    EXPECT_EQ(machine_.incarnation(), 2U);
}

// Everything that a snapshot must carry, all at once.
class SnapshotTest : public MachineTest {
protected:
    void SetUp() override {
        MachineTest::SetUp();
        apply(Reset{"s2"});
        for (int i = 1; i <= 10; ++i) {
            run("m" + std::to_string(i), Delta().put("k" + std::to_string(i), "v").str());
        }
        submit("yielded");
        claim(kB);
        apply(Yield{machine_.next_cell(), machine_.epoch(), kB});
        submit("waits");
        submit("cancelled");
        claim(kC);
        apply(cancel("cancelled"));
        apply(ResultPart{machine_.next_cell(), machine_.epoch(), kC, 0, Bytes::copy("\x01")});
        auto held = result();
        held.parts = 2;
        const auto delta = Delta().put("k1", "new").str();
        held.delta = Bytes(delta.substr(2));
        held.digest = *machine_.table().digest_after(delta);
        apply(held);
    }
    static CellMachine restored(const CellMachine& machine) {
        auto copy = CellMachine::restore(machine.snapshot().view(), kLimits);
        EXPECT_TRUE(copy) << copy.error().what;
        return std::move(*copy);
    }
    static constexpr Limits kLimits{.queued_cells_max = 5,
                                    .queued_bytes_max = 1000,
                                    .finished_cells_max = 4,
                                    .finished_bytes_max = 1000,
                                    .remembered_ids_max = 8,
                                    .past_sessions_max = 2};
};

TEST_F(SnapshotTest, Rule12CarriesEveryAccessor) {
    const auto copy = restored(machine_);
    EXPECT_EQ(copy.options(), machine_.options());
    EXPECT_EQ(copy.session(), "s2");
    EXPECT_EQ(copy.incarnation(), 1U);
    EXPECT_EQ(copy.next_cell(), machine_.next_cell());
    EXPECT_EQ(copy.epoch(), Epoch{1});
    EXPECT_EQ(copy.sequence(), machine_.sequence());
    EXPECT_EQ(copy.last_executor(), kA);
    ASSERT_TRUE(copy.standing());
    EXPECT_EQ(copy.standing()->cell, machine_.standing()->cell);
    EXPECT_EQ(copy.standing()->epoch, machine_.standing()->epoch);
    EXPECT_EQ(copy.standing()->replica, kC);
    EXPECT_EQ(copy.standing()->fence, machine_.standing()->fence);
    ASSERT_EQ(copy.queue().size(), 3U);
    EXPECT_EQ(copy.queue()[1].msg_id, "waits");
    EXPECT_EQ(copy.queue()[1].request.view(), "code waits");
    EXPECT_EQ(copy.table().entries(), machine_.table().entries());
    EXPECT_EQ(copy.table().digest(), machine_.table().digest());
    EXPECT_EQ(copy.snapshot(), machine_.snapshot());
}

TEST_F(SnapshotTest, Rule12ARestoredMachineGoesOnLikeTheOriginal) {
    // The claim stands, part 1 of a held result is missing, the deduplication window and the
    // cancelled cell are kept.
    auto copy = restored(machine_);
    const auto delta = Delta().put("k1", "new").str();
    const ResultPart rest{machine_.next_cell(), machine_.epoch(), kC, 1, Bytes(delta.substr(1, 1))};
    const std::vector<CellEntry> next = {
        Submit{"client", "m5", true, true, {}},
        Submit{"client", "m9", true, true, {}},
        Submit{"client", "m1", true, true, {}},
        Submit{"client", "waits", true, true, {}},
        rest,
        Submit{"client", "new", true, true, {}},
        Claim{CellNumber{12}, Epoch{1}, kB},
        Reset{"s1"},
        Reset{"s3"},
    };
    for (const auto& entry : next) {
        ++index_;
        const auto events = machine_.apply(term_, Index{index_}, encode(entry).view());
        const auto same = copy.apply(term_, Index{index_}, encode(entry).view());
        ASSERT_EQ(events.size(), same.size());
        for (std::size_t i = 0; i < events.size(); ++i) {
            EXPECT_EQ(events[i].index(), same[i].index());
        }
        ASSERT_EQ(copy.snapshot(), machine_.snapshot()) << "after " << entry.index();
    }
    EXPECT_EQ(machine_.session(), "s3");
    EXPECT_EQ(machine_.finished("client", "yielded")->ending, Ending::kResult);
}

TEST_F(SnapshotTest, AnEmptyMachineRoundTrips) {
    const CellMachine empty;
    EXPECT_EQ(restored(empty).snapshot(), empty.snapshot());
    EXPECT_FALSE(restored(empty).options());
}

TEST_F(SnapshotTest, ADamagedSnapshotIsRefusedAndSaysSo) {
    const auto good = std::string(machine_.snapshot().view());
    for (std::size_t size = 0; size < good.size(); ++size) {
        const auto refused = CellMachine::restore(good.substr(0, size), kLimits);
        ASSERT_FALSE(refused) << size;
        EXPECT_NE(refused.error().what.find("another replica"), std::string::npos) << size;
    }
    EXPECT_FALSE(CellMachine::restore(good + "x", kLimits));
    auto digest = good;
    digest.back() = static_cast<char>(digest.back() ^ 1);
    const auto refused = CellMachine::restore(digest, kLimits);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().what.find("digest"), std::string::npos);
}

TEST_F(SnapshotTest, AnyByteChangedIsRefusedOrRestoresToWhatItSays) {
    const auto good = std::string(machine_.snapshot().view());
    for (std::size_t at = 0; at < good.size(); ++at) {
        auto bad = good;
        bad[at] = static_cast<char>(bad[at] ^ 0x41);
        if (auto copy = CellMachine::restore(bad, kLimits)) {
            EXPECT_TRUE(CellMachine::restore(copy->snapshot().view(), kLimits)) << at;
        }
    }
}

}  // namespace
}  // namespace nbos::replica
