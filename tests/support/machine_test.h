// A CellMachine fed from a log of its own, for the tests of src/replica.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "replica/cell_machine.h"
#include "tests/support/delta.h"

namespace nbos::replica {

class MachineTest : public ::testing::Test {
protected:
    using Delta = nbos::testing::Delta;
    static constexpr ReplicaId kA{1}, kB{2}, kC{3};

    void SetUp() override { apply(Configure{{.spec = "python3", .session = "s1"}}); }

    std::vector<Event> apply(const CellEntry& entry) {
        return machine_.apply(term_, Index{++index_}, encode(entry).view());
    }
    std::vector<Event> submit(const std::string& msg_id, bool stop_on_error = true) {
        return apply(Submit{"client", msg_id, stop_on_error, true, Bytes::copy("code " + msg_id)});
    }
    static Cancel cancel(const std::string& msg_id, const std::string& reason = "not wanted") {
        return {"client", msg_id, reason};
    }
    std::vector<Event> claim(ReplicaId replica) {
        return apply(Claim{machine_.next_cell(), machine_.epoch(), replica});
    }
    // The result that the executor of the standing claim would propose now.
    Result result(const std::string& delta = {}, Outcome outcome = Outcome::kOk) const {
        const auto& claim = machine_.standing();
        EXPECT_TRUE(claim);
        const auto digest = machine_.table().digest_after(delta);
        EXPECT_TRUE(digest);
        return {.cell = claim->cell,
                .epoch = claim->epoch,
                .replica = claim->replica,
                .base = machine_.sequence(),
                .delta = Bytes(std::string(delta)),
                .digest = *digest,
                .outcome = outcome,
                .reply = Bytes::copy("reply"),
                .outputs = Bytes::copy("outputs")};
    }
    // Submits, claims and ends one cell.
    void run(const std::string& msg_id, const std::string& delta, ReplicaId replica = kA) {
        submit(msg_id);
        claim(replica);
        apply(result(delta));
    }

    // True when the entry had no effect at all: only Void events and the same state as before.
    bool is_void(const CellEntry& entry) {
        const auto before = machine_.snapshot();
        const auto events = apply(entry);
        bool nothing = machine_.snapshot() == before && !events.empty();
        for (const auto& event : events) {
            nothing = nothing && std::holds_alternative<Void>(event);
        }
        return nothing;
    }

    template <class T>
    static std::vector<T> all(const std::vector<Event>& events) {
        std::vector<T> found;
        for (const auto& event : events) {
            if (const auto* match = std::get_if<T>(&event)) {
                found.push_back(*match);
            }
        }
        return found;
    }
    template <class T>
    static T only(const std::vector<Event>& events) {
        EXPECT_EQ(events.size(), 1U);
        const auto found = all<T>(events);
        EXPECT_EQ(found.size(), 1U);
        return found.empty() ? T{} : found.front();
    }

    CellMachine machine_{Limits{.queued_cells_max = 5,
                                .queued_bytes_max = 1000,
                                .finished_cells_max = 4,
                                .finished_bytes_max = 1000,
                                .remembered_ids_max = 8,
                                .past_sessions_max = 2}};
    Term term_{1};
    std::uint64_t index_ = 0;
};

}  // namespace nbos::replica
