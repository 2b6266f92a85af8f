#include "tests/fuzz/wire_targets.h"

#include <algorithm>

#include "base/check.h"
#include "cluster/rpc.h"
#include "jupyter/connection_file.h"
#include "jupyter/message.h"
#include "jupyter/signed_frames.h"
#include "raft/messages.h"
#include "replica/cell_log.h"
#include "replica/cell_machine.h"
#include "replica/table_machine.h"
#include "state/state_table.h"
#include "tests/support/delta.h"

namespace nbos::fuzz {
namespace {

template <class T>
std::string encoded(const T& value) {
    Writer out;
    encode(out, value);
    return out.take();
}

jupyter::Message message() {
    return {.header = R"({"msg_id":"m1","msg_type":"execute_request","session":"s"})",
            .parent_header = "{}",
            .metadata = "{}",
            .content = R"({"code":"1+1"})",
            .buffers = {Bytes::copy("buffer"), Bytes()}};
}

Membership membership() {
    return {.voters = {ReplicaId{1}, ReplicaId{2}},
            .outgoing = {ReplicaId{3}},
            .learners = {ReplicaId{4}},
            .hosts = {{ReplicaId{1}, HostId{"host-1"}}}};
}

std::vector<std::string> message_examples() { return {encoded(message())}; }
std::vector<std::string> header_examples() { return {message().header, R"({"msg_id":[1,{}]})"}; }

std::vector<std::string> connection_file_examples() {
    return {
        R"({"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5,)"
        R"( "ip": "127.0.0.1", "transport": "tcp", "key": "k", "signature_scheme": "hmac-sha256"})",
        R"({"transport": "ipc", "shell_port": 65535})"};
}

std::string joined(const std::vector<Bytes>& frames) {
    std::string out;
    for (const auto& frame : frames) {
        out.push_back(static_cast<char>(frame.size() & 0xFFU));
        out.push_back(static_cast<char>(frame.size() >> 8U));
        out += frame.view();
    }
    return out;
}

std::vector<Bytes> cut(std::string_view bytes) {
    std::vector<Bytes> frames;
    while (bytes.size() >= 2) {
        const auto size = static_cast<std::size_t>(static_cast<std::uint8_t>(bytes[0]) |
                                                   (static_cast<std::uint8_t>(bytes[1]) << 8U));
        frames.push_back(Bytes::copy(bytes.substr(2, size)));
        bytes.remove_prefix(std::min(bytes.size(), size + 2));
    }
    return frames;
}

std::vector<std::string> frame_examples() {
    std::vector<std::string> out;
    for (const auto* key : {"", "key"}) {
        out.push_back(joined(jupyter::to_signed_frames({{Bytes::copy("peer")}, message()}, key)));
    }
    return out;
}

std::vector<replica::CellEntry> entries() {
    using namespace replica;  // NOLINT: the vocabulary of the log, in this function only
    const auto delta = nbos::testing::Delta().put("n:x", "1").del("n:y").str();
    return {Configure{{.spec = "python3", .session = "s1", .env = {{"A", "1"}}}},
            Submit{"client", "m2", true, true, Bytes(encoded(message()))},
            Claim{CellNumber{1}, Epoch{0}, ReplicaId{1}},
            Yield{CellNumber{1}, Epoch{0}, ReplicaId{1}},
            ResultPart{CellNumber{1}, Epoch{0}, ReplicaId{1}, 0, Bytes(delta)},
            replica::Result{.cell = CellNumber{1},
                            .epoch = Epoch{0},
                            .replica = ReplicaId{1},
                            .delta = Bytes(delta),
                            .reply = Bytes(encoded(message()))},
            ExecutorLost{CellNumber{1}, Epoch{0}, "gone"},
            Cancel{"s", "m", "stop"},
            Reset{"s2"}};
}

std::vector<std::string> entry_examples() {
    std::vector<std::string> out;
    for (const auto& entry : entries()) {
        out.emplace_back(replica::encode(entry).view());
    }
    return out;
}

replica::TableWrite table_write() {
    return {{1, 2},
            3,
            {{{{"a", Index{4}}}, {{"a", Bytes::copy("1")}, {"b", std::nullopt}}},
             {{}, {{"c", Bytes::copy("2")}}}}};
}

std::vector<std::string> table_write_examples() {
    return {std::string(replica::encode(table_write()).view())};
}

std::vector<std::string> table_machine_examples() {
    replica::TableMachine machine;
    auto write = table_write();
    write.transactions[0].conditions.clear();
    machine.apply(Index{4}, replica::encode(write).view());
    return {std::string(machine.snapshot().view())};
}

std::vector<std::string> rpc_examples() {
    const KernelId kernel{Uuid{1, 2}};
    const std::vector<cluster::Rpc> all = {
        cluster::HostDirectory{{{HostId{"h"}, "1.2.3.4:5"}}},
        cluster::StartReplica{1, kernel, ReplicaId{1}, membership(), {}},
        cluster::ClientMessage{kernel, message()},
        cluster::ChangeMembers{1, kernel, std::pair{ReplicaId{2}, HostId{"h"}}, ReplicaId{1}},
        cluster::KernelStatus{.kernel = kernel, .membership = membership()},
        cluster::CellEnded{.kernel = kernel, .reply = message(), .outputs = {message()}},
        cluster::WriteTable{1, table_write()},
        cluster::CatchUp{.kernel = kernel, .session = "s", .outputs = {message()}},
        cluster::TableRows{.index = Index{3},
                           .rows = {{"k", Bytes::copy("v"), Index{3}}, {"gone", {}, Index{3}}},
                           .writers = {{{1, 2}, 3, {replica::TableOutcome::kFull}}}},
        cluster::ConnectedGateways{HostId{"h"}, {"gateway-1"}},
        cluster::InterruptCallback{kernel}};
    std::vector<std::string> out;
    for (const auto& rpc : all) {
        out.emplace_back(cluster::encode(rpc).view());
    }
    return out;
}

std::vector<std::string> raft_examples() {
    raft::Message append;
    append.kind = raft::MessageKind::kAppend;
    append.group = GroupId{Uuid{1, 2}};
    append.entries = {
        {Term{1}, Index{2}, raft::EntryKind::kCommand, {ReplicaId{1}, 3}, Bytes::copy("command")}};
    raft::Message chunk;
    chunk.kind = raft::MessageKind::kSnapshotChunk;
    chunk.chunk = Bytes::copy("chunk");
    return {encoded(append), encoded(chunk), encoded(raft::Message{})};
}

std::vector<std::string> snapshot_examples() {
    raft::Snapshot snapshot;
    snapshot.index = Index{9};
    snapshot.term = Term{2};
    snapshot.membership = membership();
    snapshot.applied_proposals[ReplicaId{1}] = {4, {6, 8}};
    snapshot.state = Bytes::copy("state");
    return {encoded(snapshot)};
}

std::vector<std::string> delta_examples() {
    return {nbos::testing::Delta().put("n:x", "1").put("o:7", "value").str(),
            nbos::testing::Delta().put("a", "").del("a").str()};
}

// Configured, one cell ended, the next one claimed by replica 1 with a part here, one waiting.
replica::CellMachine machine() {
    using namespace replica;  // NOLINT
    CellMachine machine;
    std::uint64_t index = 0;
    const auto apply = [&](const CellEntry& entry) {
        machine.apply(Term{1}, Index{++index}, encode(entry).view());
    };
    apply(Configure{{.spec = "python3", .session = "s1"}});
    apply(Submit{"client", "m0", true, true, Bytes::copy("request")});
    apply(Cancel{"s", "m", "stop"});
    apply(Submit{"client", "m1", true, true, Bytes::copy("request")});
    apply(Submit{"client", "m3", true, true, Bytes::copy("request")});
    apply(Claim{CellNumber{2}, Epoch{0}, ReplicaId{1}});
    apply(ResultPart{CellNumber{2}, Epoch{0}, ReplicaId{1}, 0, Bytes::copy("part")});
    return machine;
}

std::vector<std::string> machine_examples() { return {std::string(machine().snapshot().view())}; }

}  // namespace

void decode_jupyter_message(std::string_view bytes) {
    Reader in(bytes);
    if (const auto decoded = jupyter::decode_message(in)) {
        const auto again = encoded(*decoded);
        NBOS_CHECK(bytes.substr(0, again.size()) == again, "a message has two encodings");
    }
}

void parse_jupyter_header(std::string_view bytes) { jupyter::parse_header(bytes); }

void parse_connection_file(std::string_view bytes) {
    if (const auto file = jupyter::parse_connection_file(bytes)) {
        NBOS_CHECK(file->endpoint(file->hb_port) != file->endpoint(file->shell_port),
                   "two sockets have one endpoint");
    }
}

void decode_signed_frames(std::string_view bytes) {
    const auto frames = cut(bytes);
    for (const auto* key : {"", "key"}) {
        const auto decoded = jupyter::from_signed_frames(jupyter::Channel::kShell, frames, key);
        if (decoded) {
            const auto again = jupyter::from_signed_frames(
                jupyter::Channel::kShell, jupyter::to_signed_frames(*decoded, key), key);
            NBOS_CHECK(again && again->message == decoded->message &&
                           again->identities == decoded->identities,
                       "signed frames do not round-trip");
        }
    }
}

void decode_cell_entry(std::string_view bytes) {
    if (const auto entry = replica::decode_cell_entry(bytes)) {
        const auto again = replica::encode(*entry);
        NBOS_CHECK(replica::decode_cell_entry(again.view()), "an entry does not round-trip");
    }
}

void decode_rpc(std::string_view bytes) {
    if (const auto rpc = cluster::decode_rpc(bytes)) {
        const auto again = cluster::encode(*rpc);
        NBOS_CHECK(cluster::decode_rpc(again.view()), "an Rpc does not round-trip");
    }
}

void decode_raft_message(std::string_view bytes) {
    Reader in(bytes);
    if (const auto decoded = raft::decode_message(in)) {
        const auto again = encoded(*decoded);
        Reader second(again);
        NBOS_CHECK(raft::decode_message(second), "a Raft message does not round-trip");
    }
}

void decode_raft_snapshot(std::string_view bytes) {
    Reader in(bytes);
    if (const auto decoded = raft::decode_snapshot(in)) {
        const auto again = encoded(*decoded);
        Reader second(again);
        NBOS_CHECK(raft::decode_snapshot(second), "a snapshot does not round-trip");
    }
}

void apply_state_delta(std::string_view bytes) {
    state::StateTable table;
    NBOS_CHECK(table.apply(nbos::testing::Delta().put("n:y", "0").str()), "a good delta");
    const auto before = table.digest();
    if (!table.apply(bytes)) {
        NBOS_CHECK(table.digest() == before, "a refused delta changed the table");
        return;
    }
    state::StateTable copy;
    NBOS_CHECK(copy.apply(table.as_delta().view()) && copy.digest() == table.digest(),
               "a table does not round-trip");
}

void restore_cell_machine(std::string_view bytes) {
    if (auto restored = replica::CellMachine::restore(bytes)) {
        NBOS_CHECK(replica::CellMachine::restore(restored->snapshot().view()),
                   "a restored machine does not round-trip");
        apply_state_delta({});
        restored->apply(Term{9}, Index{99}, replica::encode(replica::Reset{"s9"}).view());
    }
}

void decode_table_write(std::string_view bytes) {
    if (const auto write = replica::decode_table_write(bytes)) {
        NBOS_CHECK(replica::encode(*write).view() == bytes, "a write has two encodings");
        replica::TableMachine machine;
        machine.apply(Index{1}, bytes);
        NBOS_CHECK(replica::TableMachine::restore(machine.snapshot().view()) == machine,
                   "a write left a table that cannot be restored");
    }
}

void restore_table_machine(std::string_view bytes) {
    if (auto restored = replica::TableMachine::restore(bytes)) {
        NBOS_CHECK(replica::TableMachine::restore(restored->snapshot().view()) == restored,
                   "a restored table does not round-trip");
        restored->apply(Index{99}, replica::encode(table_write()).view());
    }
}

void apply_cell_entry(std::string_view bytes) {
    static const auto before = machine();
    auto copy = before;
    copy.apply(Term{2}, Index{100}, bytes);
    NBOS_CHECK(replica::CellMachine::restore(copy.snapshot().view()),
               "an entry left a machine that cannot be restored");
}

const std::vector<Target>& wire_targets() {
    static const std::vector<Target> kTargets = {
        {"decode_jupyter_message", decode_jupyter_message, message_examples},
        {"parse_jupyter_header", parse_jupyter_header, header_examples},
        {"parse_connection_file", parse_connection_file, connection_file_examples},
        {"decode_signed_frames", decode_signed_frames, frame_examples},
        {"decode_cell_entry", decode_cell_entry, entry_examples},
        {"decode_rpc", decode_rpc, rpc_examples},
        {"decode_raft_message", decode_raft_message, raft_examples},
        {"decode_raft_snapshot", decode_raft_snapshot, snapshot_examples},
        {"apply_state_delta", apply_state_delta, delta_examples},
        {"decode_table_write", decode_table_write, table_write_examples},
        {"restore_table_machine", restore_table_machine, table_machine_examples},
        {"restore_cell_machine", restore_cell_machine, machine_examples},
        {"apply_cell_entry", apply_cell_entry, entry_examples},
    };
    return kTargets;
}

}  // namespace nbos::fuzz
