#include "cluster/rpc.h"

#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

namespace nbos::cluster {
namespace {

const KernelId kKernel{Uuid{0x1122334455667788, 0x99AABBCCDDEEFF00}};

jupyter::Message message(std::string content) {
    return {.channel = jupyter::Channel::kIopub,
            .header = R"({"msg_type":"stream"})",
            .parent_header = R"({"msg_id":"m1"})",
            .metadata = "{}",
            .content = std::move(content),
            .buffers = {Bytes::copy("buffer")}};
}

replica::KernelOptions options() {
    return {.spec = "python3",
            .session = "s1",
            .username = "ada",
            .cwd = "/home/ada",
            .env = {{"LANG", "C.UTF-8"}, {"EMPTY", ""}},
            .replicas = 5};
}

Membership membership() {
    return {.voters = {ReplicaId{1}, ReplicaId{2}},
            .outgoing = {ReplicaId{1}},
            .learners = {ReplicaId{9}},
            .hosts = {{ReplicaId{1}, HostId{"host-1"}}, {ReplicaId{9}, HostId{"host-9"}}}};
}

KernelStatus kernel_status() {
    return {.kernel = kKernel,
            .replica = ReplicaId{2},
            .host = HostId{"host-2"},
            .role = raft::Role::kLeader,
            .term = Term{7},
            .leader = ReplicaId{2},
            .membership = membership(),
            .settled = true,
            .options = options(),
            .sequence = Sequence{40},
            .incarnation = 3,
            .executor = ReplicaId{1},
            .queued = 4,
            .state = ExecutionState::kBusy,
            .interpreter = "ready",
            .state_bytes = 12345,
            .process = "a1b2c3i7"};
}

CellEnded cell_ended() {
    return {.kernel = kKernel,
            .fence = {Term{3}, Index{44}},
            .session = "client",
            .msg_id = "m1",
            .ending = replica::Ending::kExecutorLost,
            .reason = "host-1 is gone",
            .reply = message("reply"),
            .outputs = {message("one"), message("two")},
            .heard = {{"client", ""}, {"other", "o2"}},
            .recalled_by = "client"};
}

// One of each kind, in the order of the variant, with every field set.
std::vector<Rpc> examples() {
    return {
        Hello{"gateway-1"},
        HostDirectory{{{HostId{"host-1"}, "10.0.0.1:4000"}, {HostId{"host-2"}, "10.0.0.2:4000"}}},
        StartReplica{5, kKernel, ReplicaId{2}, membership(), options()},
        StopReplica{6, kKernel, ReplicaId{2}},
        ClientMessage{kKernel, message("{}"), 3},
        Interrupt{7, kKernel},
        Restart{8, kKernel, "s2"},
        Lead{9, kKernel},
        ChangeMembers{10, kKernel, std::pair{ReplicaId{9}, HostId{"host-9"}}, ReplicaId{1}, true},
        KillInterpreter{11, kKernel},
        AgentInfo{HostId{"host-1"}, "0.1.0", 16, 64ULL << 30U},
        Reply{12, false, Errc::kTimeout, "no majority"},
        KernelOutput{kKernel, {Term{3}, Index{44}}, message("out")},
        CellStarted{kKernel, {Term{3}, Index{44}}, "client", "m1", {{"client", "o1"}}},
        cell_ended(),
        kernel_status(),
        ReplicaGone{kKernel, ReplicaId{2}},
        Heard{kKernel, "s1", "s2", "m1", "o1", true},
        Recall{13, kKernel, "s1", true},
        ReadOutputs{14, kKernel, "s1", "m1"},
        CellOutputs{15,
                    kKernel,
                    "s1",
                    CellOutputs::State::kEnded,
                    replica::Ending::kExecutorLost,
                    "host-1 is gone",
                    {message("one"), message("two")}},
        WriteTable{
            16, {{1, 2}, 3, {{{{"a", Index{4}}}, {{"a", Bytes::copy("1")}, {"b", std::nullopt}}}}}},
        CatchUp{.kernel = kKernel,
                .session = "s1",
                .done = {{"s1", "m0"}},
                .asked_by = "s2",
                .msg_id = "m1",
                .knows_it_runs = true,
                .heard = "o1",
                .outputs = {message("one")}},
        TableRows{.group = system_group(2),
                  .everything = true,
                  .base = Index{1},
                  .index = Index{9},
                  .rows = {{"a", Bytes::copy("1"), Index{4}}, {"b", std::nullopt, Index{9}}},
                  .writers = {{{1, 2}, 3, {replica::TableOutcome::kConflict}}}},
        ConnectedGateways{HostId{"host-1"}, {"gateway-1", "gateway-2"}},
        InterruptCallback{kKernel},
    };
}

template <class T>
T round_trip(const T& rpc) {
    const auto back = decode_rpc(encode(Rpc(rpc)).view());
    EXPECT_TRUE(back && std::holds_alternative<T>(*back));
    return std::get<T>(*back);
}

TEST(Rpc, EveryKindRoundTripsByteForByte) {
    const auto all = examples();
    ASSERT_EQ(all.size(), std::variant_size_v<Rpc>);
    for (std::size_t kind = 0; kind < all.size(); ++kind) {
        ASSERT_EQ(all[kind].index(), kind);
        const auto bytes = encode(all[kind]);
        const auto back = decode_rpc(bytes.view());
        ASSERT_TRUE(back) << kind;
        EXPECT_EQ(back->index(), kind);
        EXPECT_EQ(encode(*back), bytes) << kind;
    }
}

TEST(Rpc, KernelStatusKeepsEveryField) {
    const auto want = kernel_status();
    const auto got = round_trip(want);
    EXPECT_EQ(got.kernel, want.kernel);
    EXPECT_EQ(got.replica, want.replica);
    EXPECT_EQ(got.host, want.host);
    EXPECT_EQ(got.role, want.role);
    EXPECT_EQ(got.term, want.term);
    EXPECT_EQ(got.leader, want.leader);
    EXPECT_EQ(got.membership, want.membership);
    EXPECT_EQ(got.settled, want.settled);
    EXPECT_EQ(got.options, want.options);
    EXPECT_EQ(got.sequence, want.sequence);
    EXPECT_EQ(got.incarnation, want.incarnation);
    EXPECT_EQ(got.executor, want.executor);
    EXPECT_EQ(got.queued, want.queued);
    EXPECT_EQ(got.state, want.state);
    EXPECT_EQ(got.interpreter, want.interpreter);
    EXPECT_EQ(got.state_bytes, want.state_bytes);
    EXPECT_EQ(got.process, want.process);
}

TEST(Rpc, CellEndedKeepsEveryField) {
    const auto want = cell_ended();
    const auto got = round_trip(want);
    EXPECT_EQ(got.kernel, want.kernel);
    EXPECT_EQ(got.fence, want.fence);
    EXPECT_EQ(got.session, want.session);
    EXPECT_EQ(got.msg_id, want.msg_id);
    EXPECT_EQ(got.ending, want.ending);
    EXPECT_EQ(got.reason, want.reason);
    EXPECT_EQ(got.reply, want.reply);
    EXPECT_EQ(got.outputs, want.outputs);
}

TEST(Rpc, RequestsKeepTheirFields) {
    const auto start = round_trip(StartReplica{5, kKernel, ReplicaId{2}, membership(), options()});
    EXPECT_EQ(start.request, 5U);
    EXPECT_EQ(start.kernel, kKernel);
    EXPECT_EQ(start.replica, ReplicaId{2});
    EXPECT_EQ(start.bootstrap, membership());
    EXPECT_EQ(start.options, options());
    EXPECT_EQ(round_trip(StartReplica{}).bootstrap, std::nullopt);

    const ChangeMembers want{10, kKernel, std::pair{ReplicaId{9}, HostId{"h"}}, ReplicaId{1}};
    const auto change = round_trip(want);
    EXPECT_EQ(change.request, 10U);
    EXPECT_EQ(change.add, want.add);
    EXPECT_EQ(change.remove, want.remove);
    EXPECT_EQ(round_trip(ChangeMembers{}).add, std::nullopt);
    EXPECT_EQ(round_trip(ChangeMembers{}).remove, std::nullopt);

    const auto reply = round_trip(Reply{12, false, Errc::kTimeout, "no majority"});
    EXPECT_EQ(reply.request, 12U);
    EXPECT_FALSE(reply.ok);
    EXPECT_EQ(reply.code, Errc::kTimeout);
    EXPECT_EQ(reply.what, "no majority");

    const auto output = round_trip(KernelOutput{kKernel, {Term{3}, Index{44}}, message("out")});
    EXPECT_EQ(output.kernel, kKernel);
    EXPECT_EQ(output.fence, (replica::Fence{Term{3}, Index{44}}));
    EXPECT_EQ(output.message, message("out"));

    const auto directory = round_trip(HostDirectory{{{HostId{"host-1"}, "10.0.0.1:4000"}}});
    EXPECT_EQ(directory.addresses.at(HostId{"host-1"}), "10.0.0.1:4000");
}

TEST(Rpc, EveryTruncationAndEveryTailIsRefused) {
    for (const auto& rpc : examples()) {
        const auto bytes = encode(rpc);
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            EXPECT_FALSE(decode_rpc(bytes.view().substr(0, size))) << rpc.index() << ' ' << size;
        }
        EXPECT_FALSE(decode_rpc(std::string(bytes.view()) + "x")) << rpc.index();
    }
}

TEST(Rpc, UnknownKindsVersionsAndEnumsAreRefused) {
    auto bytes = std::string(encode(Reply{}).view());
    ASSERT_TRUE(decode_rpc(bytes));
    auto version = bytes;
    version[0] = 3;
    EXPECT_FALSE(decode_rpc(version));
    auto kind = bytes;
    kind[1] = static_cast<char>(std::variant_size_v<Rpc>);
    EXPECT_FALSE(decode_rpc(kind));
    auto boolean = bytes;
    boolean[10] = 2;  // behind version, kind and request: `ok`
    EXPECT_FALSE(decode_rpc(boolean));
    auto code = bytes;
    code[11] = 99;
    EXPECT_FALSE(decode_rpc(code));
}

TEST(Rpc, AHugeCountAllocatesNothing) {
    const auto bytes = Writer().put(std::uint8_t{1}).put(std::uint8_t{1}).put(0xFFFFFFFFU).take();
    EXPECT_FALSE(decode_rpc(bytes));
}

}  // namespace
}  // namespace nbos::cluster
