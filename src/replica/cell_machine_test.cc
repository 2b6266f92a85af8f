// The rules of consensus.md section 9, one after the other, as far as they need no network.
#include "replica/cell_machine.h"

#include "tests/support/machine_test.h"

namespace nbos::replica {
namespace {

// ---- rule 1: one executor per cell ----

TEST_F(MachineTest, Rule1FirstClaimStandsAndTheOthersAreVoid) {
    submit("m1");
    const auto event = only<CellClaimed>(claim(kB));
    EXPECT_EQ(event.claim.replica, kB);
    EXPECT_EQ(event.cell.msg_id, "m1");
    EXPECT_EQ(event.cell.request.view(), "code m1");
    EXPECT_TRUE(is_void(Claim{CellNumber{1}, Epoch{0}, kA}));
    EXPECT_TRUE(is_void(Claim{CellNumber{1}, Epoch{0}, kB}));  // its own again
    EXPECT_EQ(machine_.standing()->replica, kB);
}

TEST_F(MachineTest, Rule1AClaimOfAnotherCellOrEpochIsVoid) {
    submit("m1");
    submit("m2");
    EXPECT_TRUE(is_void(Claim{CellNumber{0}, Epoch{0}, kA}));
    EXPECT_TRUE(is_void(Claim{CellNumber{2}, Epoch{0}, kA}));
    EXPECT_TRUE(is_void(Claim{CellNumber{3}, Epoch{0}, kA}));
    EXPECT_TRUE(is_void(Claim{CellNumber{1}, Epoch{1}, kA}));
    EXPECT_TRUE(is_void(Claim{CellNumber{1}, Epoch{0}, ReplicaId{0}}));
    EXPECT_FALSE(is_void(Claim{CellNumber{1}, Epoch{0}, kA}));
}

TEST_F(MachineTest, TwoClaimsInOneBatchHaveOneWinner) {
    // One append may carry the claims of two cells, and of two replicas for one cell.
    submit("m1");
    submit("m2");
    only<CellClaimed>(apply(Claim{CellNumber{1}, Epoch{0}, kA}));
    EXPECT_TRUE(is_void(Claim{CellNumber{1}, Epoch{0}, kB}));
    EXPECT_TRUE(is_void(Claim{CellNumber{2}, Epoch{0}, kB}));
    EXPECT_EQ(machine_.standing()->replica, kA);
    EXPECT_EQ(machine_.next_cell(), CellNumber{1});
}

TEST_F(MachineTest, NothingIsClaimedBeforeTheKernelIsConfigured) {
    CellMachine bare;
    bare.apply(Term{1}, Index{1}, encode(Submit{"client", "m1", true, true, {}}).view());
    EXPECT_EQ(bare.queue().size(), 1U);
    only<Void>(bare.apply(Term{1}, Index{2}, encode(Claim{CellNumber{1}, Epoch{0}, kA}).view()));
    only<Void>(bare.apply(Term{1}, Index{3}, encode(Reset{"s2"}).view()));
    EXPECT_FALSE(bare.standing());
}

TEST_F(MachineTest, ASecondConfigureIsVoid) {
    EXPECT_TRUE(is_void(Configure{{.spec = "other", .session = "s2"}}));
    EXPECT_EQ(machine_.options()->spec, "python3");
    EXPECT_EQ(machine_.session(), "s1");
}

// ---- rule 2: epoch fencing ----

TEST_F(MachineTest, Rule2TheEpochGrowsWhenAClaimEndsWithoutADelta) {
    submit("m1");
    claim(kA);
    EXPECT_EQ(only<ClaimEnded>(apply(Yield{CellNumber{1}, Epoch{0}, kA})).cell, CellNumber{1});
    EXPECT_EQ(machine_.epoch(), Epoch{1});
    EXPECT_EQ(machine_.next_cell(), CellNumber{1});  // claimable again
    claim(kB);
    apply(ExecutorLost{CellNumber{1}, Epoch{1}, "gone"});
    EXPECT_EQ(machine_.epoch(), Epoch{2});
    run("m2", {});
    EXPECT_EQ(machine_.epoch(), Epoch{2});  // an accepted result ends no epoch
    submit("m3");
    claim(kA);
    apply(Reset{"s2"});
    EXPECT_EQ(machine_.epoch(), Epoch{3});
}

TEST_F(MachineTest, Rule2TheFenceIsThePlaceOfTheClaim) {
    submit("m1");
    term_ = Term{7};
    claim(kA);
    EXPECT_EQ(machine_.standing()->fence, (Fence{Term{7}, Index{index_}}));
    const auto first = machine_.standing()->fence;
    apply(Yield{CellNumber{1}, Epoch{0}, kA});
    claim(kA);
    EXPECT_LT(first, machine_.standing()->fence);
    EXPECT_LT((Fence{Term{7}, Index{900}}), (Fence{Term{8}, Index{1}}));
}

TEST_F(MachineTest, AYieldCountsOnlyFromTheStandingClaimer) {
    submit("m1");
    EXPECT_TRUE(is_void(Yield{CellNumber{1}, Epoch{0}, kA}));
    claim(kA);
    EXPECT_TRUE(is_void(Yield{CellNumber{1}, Epoch{0}, kB}));
    EXPECT_TRUE(is_void(Yield{CellNumber{1}, Epoch{1}, kA}));
    EXPECT_TRUE(is_void(Yield{CellNumber{2}, Epoch{0}, kA}));
}

// ---- rule 3: the term is not the epoch ----

TEST_F(MachineTest, Rule3AChangeOfTermEndsNoClaim) {
    submit("m1");
    claim(kA);
    term_ = Term{9};
    machine_.apply(term_, Index{++index_}, {});  // the new leader's no-op
    const auto ended = all<CellEnded>(apply(result(Delta().put("x", "1").str())));
    ASSERT_EQ(ended.size(), 1U);
    EXPECT_EQ(ended[0].ending, Ending::kResult);
    EXPECT_EQ(ended[0].executor, kA);
}

// ---- rule 4: whose delta counts ----

TEST_F(MachineTest, Rule4ADeltaCountsOnlyFromTheStandingExecutorAndEpoch) {
    submit("m1");
    auto early = Result{.cell = CellNumber{1}, .epoch = Epoch{0}, .replica = kA};
    EXPECT_TRUE(is_void(early));  // nobody has claimed
    claim(kA);
    const auto good = result(Delta().put("x", "1").str());
    auto other = good;
    other.replica = kB;
    EXPECT_TRUE(is_void(other));
    other = good;
    other.epoch = Epoch{1};
    EXPECT_TRUE(is_void(other));
    other = good;
    other.cell = CellNumber{2};
    EXPECT_TRUE(is_void(other));
    EXPECT_FALSE(is_void(good));
}

TEST_F(MachineTest, Rule4AResultOfAWrongBaseIsVoid) {
    run("m1", Delta().put("x", "1").str());
    submit("m2");
    claim(kA);
    auto wrong = result(Delta().put("x", "2").str());
    wrong.base = Sequence{0};
    EXPECT_TRUE(is_void(wrong));
    wrong.base = Sequence{2};
    EXPECT_TRUE(is_void(wrong));
    wrong.base = Sequence{1};
    EXPECT_FALSE(is_void(wrong));
    EXPECT_EQ(machine_.sequence(), Sequence{2});
}

TEST_F(MachineTest, Rule4ARepeatedResultIsVoid) {
    submit("m1");
    claim(kA);
    const auto once = result(Delta().put("x", "1").str());
    apply(once);
    EXPECT_TRUE(is_void(once));
    submit("m2");
    claim(kA);
    EXPECT_TRUE(is_void(once));  // also under the next claim of the same replica
}

TEST_F(MachineTest, AMalformedDeltaIsVoidAndTheClaimStands) {
    submit("m1");
    claim(kA);
    auto bad = result();
    bad.delta = Bytes::copy("no delta");
    EXPECT_TRUE(is_void(bad));
    bad.delta = Bytes(Delta().del("absent").str());
    EXPECT_TRUE(is_void(bad));
    EXPECT_TRUE(machine_.standing());
}

// ---- rule 5: each cell ends exactly once, in order ----

TEST_F(MachineTest, Rule5CellsAreNumberedFromOneAndEndInOrder) {
    EXPECT_EQ(machine_.next_cell(), CellNumber{1});
    EXPECT_EQ(only<CellQueued>(submit("m1")).cell, CellNumber{1});
    EXPECT_EQ(only<CellQueued>(submit("m2")).cell, CellNumber{2});
    for (std::uint64_t number = 1; number <= 2; ++number) {
        claim(kA);
        const auto ended = only<CellEnded>(apply(result()));
        EXPECT_EQ(ended.cell.number, CellNumber{number});
        EXPECT_EQ(ended.sequence, Sequence{number});
        EXPECT_EQ(ended.finished.reply.view(), "reply");
    }
    EXPECT_EQ(machine_.next_cell(), CellNumber{3});
}

TEST_F(MachineTest, Rule5AfterExecutorLostTheStateIsThatOfTheCellBefore) {
    run("m1", Delta().put("x", "1").str());
    const auto digest = machine_.table().digest();
    submit("m2");
    claim(kA);
    const auto ended = only<CellEnded>(apply(ExecutorLost{CellNumber{2}, Epoch{0}, "host gone"}));
    EXPECT_EQ(ended.ending, Ending::kExecutorLost);
    EXPECT_EQ(ended.executor, kA);
    EXPECT_EQ(ended.finished.reason, "host gone");
    EXPECT_EQ(ended.finished.outcome, Outcome::kError);
    EXPECT_EQ(machine_.table().digest(), digest);
    EXPECT_EQ(machine_.sequence(), Sequence{1});
    EXPECT_TRUE(is_void(Claim{CellNumber{2}, Epoch{1}, kB}));  // that number never runs again
    EXPECT_EQ(machine_.next_cell(), CellNumber{3});
}

TEST_F(MachineTest, Rule5ACancelEndsOnlyWhatNobodyClaimed) {
    submit("m1");
    const auto ended = only<CellEnded>(apply(cancel("m1", "interrupted")));
    EXPECT_EQ(ended.ending, Ending::kCancelled);
    EXPECT_EQ(ended.executor, ReplicaId{0});
    EXPECT_EQ(ended.finished.reason, "interrupted");
    EXPECT_TRUE(is_void(cancel("m1", "again")));
    submit("m2");
    claim(kA);
    EXPECT_TRUE(is_void(cancel("m2", "too late")));
    EXPECT_EQ(machine_.epoch(), Epoch{0});
}

TEST_F(MachineTest, ACellThatIsCancelledBeforeItComesNeverRuns) {
    EXPECT_FALSE(machine_.will_not_run("client", "m1"));
    const auto ended = only<CellEnded>(apply(cancel("m1", "shut down")));
    EXPECT_EQ(ended.ending, Ending::kCancelled);
    EXPECT_EQ(ended.cell.number, CellNumber{});
    EXPECT_TRUE(machine_.will_not_run("client", "m1"));
    const auto late = only<SubmitRepeated>(submit("m1"));
    ASSERT_TRUE(late.finished);
    EXPECT_EQ(late.finished->reason, "shut down");
    EXPECT_TRUE(machine_.queue().empty());
    EXPECT_EQ(only<CellQueued>(submit("m2")).cell, CellNumber{1});
}

TEST_F(MachineTest, ALostCellCancelsThoseOfItsClientWhenItStopsOnError) {
    submit("m1", false);
    submit("m2");
    apply(Submit{"another client", "n1", true, true, {}});
    submit("m3");
    claim(kA);
    EXPECT_EQ(all<CellEnded>(apply(ExecutorLost{CellNumber{1}, Epoch{0}, "gone"})).size(), 1U);
    claim(kB);
    EXPECT_EQ(all<CellEnded>(apply(ExecutorLost{CellNumber{2}, Epoch{1}, "gone"})).size(), 1U);
    claim(kB);
    const auto ended =
        all<CellEnded>(apply(result()));  // of the other client's; then it is m3's turn
    ASSERT_EQ(ended.size(), 2U);
    EXPECT_EQ(ended[0].cell.msg_id, "n1");
    EXPECT_EQ(ended[1].cell.msg_id, "m3");
    EXPECT_EQ(ended[1].ending, Ending::kCancelled);
    EXPECT_EQ(ended[1].finished.reason, "cell 2 was lost before it");
}

TEST_F(MachineTest, ExecutionCountsOfLostCellsAreSpentUntilADeltaCarriesThem) {
    const auto lose = [&](bool numbered) {
        const auto id = "lost" + std::to_string(machine_.next_cell().value);
        apply(Submit{"client", id, true, numbered, {}});
        claim(kA);
        apply(ExecutorLost{machine_.standing()->cell, machine_.epoch(), "gone"});
    };
    lose(true);
    lose(false);  // silent: nobody saw a count
    lose(true);
    EXPECT_EQ(machine_.spent_counts(), 2U);
    EXPECT_EQ(CellMachine::restore(machine_.snapshot().view())->spent_counts(), 2U);
    run("unchanged", {});
    EXPECT_EQ(machine_.spent_counts(), 2U);
    run("changed", Delta().put("count", "4").str());
    EXPECT_EQ(machine_.spent_counts(), 0U);
    lose(true);
    apply(Reset{"s2"});
    EXPECT_EQ(machine_.spent_counts(), 0U);
}

TEST_F(MachineTest, Rule5ACellCancelledInMidQueueEndsInItsTurn) {
    submit("m1");
    submit("m2");
    submit("m3");
    claim(kA);
    EXPECT_TRUE(apply(cancel("m2")).empty());
    EXPECT_TRUE(machine_.will_not_run("client", "m2"));
    EXPECT_TRUE(is_void(cancel("m2", "again")));
    const auto ended = all<CellEnded>(apply(result()));
    ASSERT_EQ(ended.size(), 2U);
    EXPECT_EQ(ended[0].cell.number, CellNumber{1});
    EXPECT_EQ(ended[1].cell.number, CellNumber{2});
    EXPECT_EQ(ended[1].ending, Ending::kCancelled);
    EXPECT_EQ(machine_.next_cell(), CellNumber{3});
}

TEST_F(MachineTest, Rule5ACancelledCellAlsoEndsBehindALostOrYieldedOne) {
    submit("m1");
    submit("m2");
    claim(kA);
    apply(cancel("m2"));
    EXPECT_EQ(all<CellEnded>(apply(ExecutorLost{CellNumber{1}, Epoch{0}, "gone"})).size(), 2U);
    EXPECT_TRUE(machine_.queue().empty());
}

TEST_F(MachineTest, AFailedCellAbortsTheQueueWhenItStopsOnError) {
    submit("m1");
    submit("m2");
    submit("m3", false);
    apply(cancel("m3"));
    claim(kA);
    const auto ended = all<CellEnded>(apply(result(Delta().put("x", "1").str(), Outcome::kError)));
    ASSERT_EQ(ended.size(), 3U);
    EXPECT_EQ(ended[0].ending, Ending::kResult);
    EXPECT_EQ(ended[0].finished.outcome, Outcome::kError);
    for (std::size_t i = 1; i < 3; ++i) {
        EXPECT_EQ(ended[i].ending, Ending::kAborted);
        EXPECT_EQ(ended[i].cell.number, CellNumber{i + 1});
        EXPECT_EQ(ended[i].finished.outcome, Outcome::kAborted);
    }
    EXPECT_EQ(machine_.table().entries().size(), 1U);  // what it did before the error counts
    EXPECT_EQ(only<CellQueued>(submit("m4")).cell, CellNumber{4});  // later cells run
}

TEST_F(MachineTest, AFailedCellAbortsNothingWithoutStopOnError) {
    submit("m1", false);
    submit("m2");
    claim(kA);
    EXPECT_EQ(all<CellEnded>(apply(result({}, Outcome::kError))).size(), 1U);
    EXPECT_EQ(machine_.queue().size(), 1U);
    claim(kA);
    apply(result());
    EXPECT_TRUE(machine_.queue().empty());
}

// ---- rule 6: loss is a decision of the log ----

TEST_F(MachineTest, Rule6ADeltaAfterExecutorLostIsVoid) {
    submit("m1");
    claim(kA);
    const auto late = result(Delta().put("x", "1").str());
    apply(ExecutorLost{CellNumber{1}, Epoch{0}, "silent"});
    EXPECT_TRUE(is_void(late));
    EXPECT_TRUE(machine_.table().entries().empty());
}

TEST_F(MachineTest, Rule6ExecutorLostAfterTheDeltaIsVoid) {
    submit("m1");
    claim(kA);
    apply(result(Delta().put("x", "1").str()));
    EXPECT_TRUE(is_void(ExecutorLost{CellNumber{1}, Epoch{0}, "silent"}));
    EXPECT_EQ(machine_.epoch(), Epoch{0});
}

TEST_F(MachineTest, Rule6ExecutorLostOfAnotherEpochOrOfNoClaimIsVoid) {
    submit("m1");
    EXPECT_TRUE(is_void(ExecutorLost{CellNumber{1}, Epoch{0}, "silent"}));
    claim(kA);
    apply(Yield{CellNumber{1}, Epoch{0}, kA});
    claim(kB);
    EXPECT_TRUE(is_void(ExecutorLost{CellNumber{1}, Epoch{0}, "meant for A"}));
    EXPECT_EQ(machine_.standing()->replica, kB);
}

TEST_F(MachineTest, AnExecutorThatWasRemovedEndsLikeALostOne) {
    run("m1", {});
    EXPECT_EQ(machine_.last_executor(), kA);
    submit("m2");
    claim(kA);
    const auto late = result(Delta().put("x", "1").str());
    // Membership is not the machine's: the driver sees the removal and proposes this.
    apply(ExecutorLost{CellNumber{2}, Epoch{0}, "its replica was removed"});
    EXPECT_EQ(machine_.last_executor(), ReplicaId{0});  // not preferred any more
    EXPECT_TRUE(is_void(late));
    run("m3", {}, kB);
    EXPECT_EQ(machine_.last_executor(), kB);
}

// ---- rule 7: whole or not at all ----

TEST_F(MachineTest, Rule7EveryAcceptedResultHasTheNextSequence) {
    run("m1", Delta().put("x", "1").str());
    run("m2", {});  // changed nothing, and has a number nevertheless
    run("m3", Delta().del("x").str());
    EXPECT_EQ(machine_.sequence(), Sequence{3});
    EXPECT_TRUE(machine_.table().entries().empty());
}

TEST_F(MachineTest, Rule7AnotherDigestMarksThisReplicaAndVotesNothingAway) {
    submit("m1");
    claim(kA);
    auto other = result(Delta().put("x", "1").str());
    other.digest ^= 1U;
    const auto events = apply(other);
    ASSERT_EQ(all<CellEnded>(events).size(), 1U);
    EXPECT_EQ(all<CellEnded>(events)[0].ending, Ending::kResult);
    ASSERT_EQ(all<Diverged>(events).size(), 1U);
    EXPECT_EQ(all<Diverged>(events)[0].sequence, Sequence{1});
    EXPECT_EQ(machine_.sequence(), Sequence{1});
}

TEST_F(MachineTest, LargeDeltasTravelInPartsThatAreJoinedByNumber) {
    const auto delta = Delta().put("x", std::string(100, 'x')).str();
    submit("m1");
    claim(kA);
    const auto part = [&](std::uint32_t number, std::size_t from) {
        return ResultPart{CellNumber{1}, Epoch{0}, kA, number, Bytes(delta.substr(from, 40))};
    };
    apply(part(1, 40));  // forwarded proposals may overtake each other
    auto last = result(delta);
    last.parts = 2;
    last.delta = Bytes(delta.substr(80));
    auto other = part(2, 80);
    other.replica = kB;
    EXPECT_TRUE(is_void(other));
    auto too_few = last;
    too_few.parts = 1;
    EXPECT_TRUE(is_void(too_few));
    EXPECT_TRUE(apply(last).empty());  // part 0 is still to come
    EXPECT_TRUE(is_void(last));
    EXPECT_TRUE(is_void(part(1, 40)));
    const auto ended = only<CellEnded>(apply(part(0, 0)));
    EXPECT_EQ(ended.delta.view(), delta);
    EXPECT_EQ(machine_.table().bytes(), 1 + Delta::value(std::string(100, 'x')).size());
}

TEST_F(MachineTest, PartsOfAnEndedClaimAreForgotten) {
    submit("m1");
    claim(kA);
    apply(ResultPart{CellNumber{1}, Epoch{0}, kA, 0, Bytes::copy("stale")});
    apply(Yield{CellNumber{1}, Epoch{0}, kA});
    claim(kA);
    const auto ended = only<CellEnded>(apply(result(Delta().put("x", "1").str())));
    EXPECT_EQ(ended.delta.view(), Delta().put("x", "1").str());
}

// ---- deduplication, limits, hostile entries ----

TEST_F(MachineTest, ARepeatedSubmitIsVoidAndAnsweredAgain) {
    submit("m1");
    auto repeated = only<SubmitRepeated>(submit("m1"));
    EXPECT_EQ(repeated.msg_id, "m1");
    EXPECT_FALSE(repeated.finished);  // still waiting
    claim(kA);
    apply(result());
    repeated = only<SubmitRepeated>(submit("m1"));
    ASSERT_TRUE(repeated.finished);
    EXPECT_EQ(repeated.finished->cell, CellNumber{1});
    EXPECT_EQ(repeated.finished->reply.view(), "reply");
    EXPECT_EQ(repeated.finished->outputs.view(), "outputs");
    EXPECT_TRUE(machine_.queue().empty());
    // The same id from another client is another cell.
    only<CellQueued>(apply(Submit{"other client", "m1", true, true, {}}));
}

TEST_F(MachineTest, AnswersAndIdsAreKeptWithinTheirLimits) {
    for (int i = 1; i <= 10; ++i) {
        run("m" + std::to_string(i), {});
    }
    EXPECT_FALSE(machine_.finished("client", "m2"));  // 8 ids are remembered: 3 to 10
    const auto old = machine_.finished("client", "m3");
    ASSERT_TRUE(old);
    EXPECT_TRUE(old->reply.empty());
    EXPECT_NE(old->reason, "");
    EXPECT_EQ(old->ending, Ending::kResult);  // how it ended is remembered longer
    EXPECT_EQ(old->cell, CellNumber{3});
    EXPECT_EQ(machine_.finished("client", "m7")->reply.view(), "reply");  // 4 answers: 7 to 10
    EXPECT_TRUE(machine_.finished("client", "m6")->reply.empty());
    // A repeated cell never runs twice, however little is known of it.
    EXPECT_TRUE(only<SubmitRepeated>(submit("m3")).finished);
}

TEST_F(MachineTest, AnswersAreLimitedInBytesButTheNewestIsKept) {
    for (const std::size_t size : {400U, 400U, 400U, 5000U}) {
        submit("big" + std::to_string(machine_.next_cell().value));
        claim(kA);
        auto big = result();
        big.reply = Bytes(std::string(size, 'r'));
        apply(big);
    }
    EXPECT_TRUE(machine_.finished("client", "big3")->reply.empty());
    EXPECT_EQ(machine_.finished("client", "big4")->reply.size(), 5000U);
    submit("small");
    claim(kA);
    apply(result());
    EXPECT_TRUE(machine_.finished("client", "big4")->reply.empty());
    EXPECT_EQ(machine_.finished("client", "small")->reply.view(), "reply");
}

TEST_F(MachineTest, AFloodOfSubmitsEndsAtOnceAndTakesNoNumbers) {
    for (int i = 1; i <= 5; ++i) {
        only<CellQueued>(submit("m" + std::to_string(i)));
    }
    const auto refused = only<CellEnded>(submit("m6"));
    EXPECT_EQ(refused.ending, Ending::kCancelled);
    EXPECT_EQ(refused.cell.msg_id, "m6");
    EXPECT_EQ(refused.cell.number, CellNumber{0});
    EXPECT_NE(refused.finished.reason.find("5 cells"), std::string::npos);
    EXPECT_TRUE(only<SubmitRepeated>(submit("m6")).finished);  // and stays refused
    claim(kA);
    apply(result());
    EXPECT_EQ(only<CellQueued>(submit("m7")).cell, CellNumber{6});
}

TEST_F(MachineTest, QueuedRequestsAreLimitedInBytes) {
    apply(Submit{"client", "large", true, true, Bytes(std::string(2000, 'x'))});
    EXPECT_EQ(machine_.queue().size(), 1U);  // alone, it is served
    EXPECT_EQ(only<CellEnded>(submit("m2")).ending, Ending::kCancelled);
    claim(kA);
    apply(result());
    only<CellQueued>(submit("m3"));
}

TEST_F(MachineTest, MalformedEntriesAreVoid) {
    const auto before = machine_.snapshot();
    for (const std::string bytes : {"x", "\x01\x63", "\x01\x01garbage"}) {
        EXPECT_EQ(all<Void>(machine_.apply(term_, Index{++index_}, bytes)).size(), 1U);
    }
    EXPECT_TRUE(machine_.apply(term_, Index{++index_}, {}).empty());
    EXPECT_EQ(machine_.snapshot(), before);
    EXPECT_TRUE(is_void(Submit{"client", "", true, true, {}}));
}

}  // namespace
}  // namespace nbos::replica
