#include "replica/cell_log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nbos::replica {
namespace {

Result result() {
    return {.cell = CellNumber{4},
            .epoch = Epoch{2},
            .replica = ReplicaId{3},
            .base = Sequence{9},
            .parts = 2,
            .delta = Bytes::copy("delta"),
            .digest = 0x0123456789ABCDEF,
            .outcome = Outcome::kError,
            .reply = Bytes::copy("reply"),
            .outputs = Bytes::copy("outputs")};
}

// One of each kind, in the order of the variant, with every field set.
std::vector<CellEntry> examples() {
    return {
        Configure{{.spec = "python3",
                   .session = "s1",
                   .username = "ada",
                   .cwd = "/w",
                   .env = {{"A", "1"}, {"B", ""}},
                   .replicas = 5}},
        Submit{"client", "m1", false, true, Bytes::copy("request")},
        Claim{CellNumber{4}, Epoch{2}, ReplicaId{3}},
        Yield{CellNumber{4}, Epoch{2}, ReplicaId{3}},
        ResultPart{CellNumber{4}, Epoch{2}, ReplicaId{3}, 1, Bytes::copy("slice")},
        result(),
        ExecutorLost{CellNumber{4}, Epoch{2}, "host-1 is gone"},
        Cancel{"client", "m5", "interrupted"},
        Reset{"s2"},
    };
}

template <class T>
T round_trip(const T& entry) {
    const auto back = decode_cell_entry(encode(CellEntry(entry)).view());
    EXPECT_TRUE(back && std::holds_alternative<T>(*back));
    return std::get<T>(*back);
}

TEST(CellLog, EveryKindRoundTripsByteForByte) {
    const auto all = examples();
    ASSERT_EQ(all.size(), std::variant_size_v<CellEntry>);
    for (std::size_t kind = 0; kind < all.size(); ++kind) {
        ASSERT_EQ(all[kind].index(), kind);
        const auto bytes = encode(all[kind]);
        const auto back = decode_cell_entry(bytes.view());
        ASSERT_TRUE(back) << kind;
        EXPECT_EQ(back->index(), kind);
        EXPECT_EQ(encode(*back), bytes) << kind;
    }
}

TEST(CellLog, FieldsComeBackInTheirPlaces) {
    const auto configure = std::get<Configure>(examples()[0]);
    EXPECT_EQ(round_trip(configure).options, configure.options);

    const auto submit = round_trip(Submit{"client", "m1", false, true, Bytes::copy("request")});
    EXPECT_EQ(submit.session, "client");
    EXPECT_EQ(submit.msg_id, "m1");
    EXPECT_FALSE(submit.stop_on_error);
    EXPECT_TRUE(submit.numbered);
    EXPECT_EQ(submit.request.view(), "request");

    const auto claim = round_trip(Claim{CellNumber{4}, Epoch{2}, ReplicaId{3}});
    EXPECT_EQ(claim.cell, CellNumber{4});
    EXPECT_EQ(claim.epoch, Epoch{2});
    EXPECT_EQ(claim.replica, ReplicaId{3});

    const auto got = round_trip(result());
    EXPECT_EQ(got.cell, CellNumber{4});
    EXPECT_EQ(got.epoch, Epoch{2});
    EXPECT_EQ(got.replica, ReplicaId{3});
    EXPECT_EQ(got.base, Sequence{9});
    EXPECT_EQ(got.parts, 2U);
    EXPECT_EQ(got.delta.view(), "delta");
    EXPECT_EQ(got.digest, 0x0123456789ABCDEFU);
    EXPECT_EQ(got.outcome, Outcome::kError);
    EXPECT_EQ(got.reply.view(), "reply");
    EXPECT_EQ(got.outputs.view(), "outputs");
}

TEST(CellLog, EveryTruncationAndEveryTailIsRefused) {
    for (const auto& entry : examples()) {
        const auto bytes = encode(entry);
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            EXPECT_FALSE(decode_cell_entry(bytes.view().substr(0, size))) << entry.index();
        }
        EXPECT_FALSE(decode_cell_entry(std::string(bytes.view()) + "x")) << entry.index();
    }
}

TEST(CellLog, UnknownVersionsKindsAndEnumsAreRefused) {
    auto bytes = std::string(encode(result()).view());
    auto version = bytes;
    version[0] = 9;
    EXPECT_FALSE(decode_cell_entry(version));
    auto kind = bytes;
    kind[1] = static_cast<char>(std::variant_size_v<CellEntry>);
    EXPECT_FALSE(decode_cell_entry(kind));
    auto unknown = result();
    unknown.outcome = static_cast<Outcome>(3);
    EXPECT_FALSE(decode_cell_entry(encode(unknown).view()));
    const auto submit = std::string(encode(Submit{"s", "m", true, true, {}}).view());
    ASSERT_TRUE(decode_cell_entry(submit));
    for (const std::size_t flag : {14, 13}) {  // stop_on_error, numbered
        auto broken = submit;
        broken[broken.size() - flag] = 2;
        EXPECT_FALSE(decode_cell_entry(broken));
    }
}

}  // namespace
}  // namespace nbos::replica
