#include "cluster/rpc.h"

#include <utility>

#include "base/wire.h"

namespace nbos::cluster {
namespace {

constexpr std::uint8_t kVersion = 2;

template <class T>
struct Tag {};

template <class T>
void put_optional(Writer& out, const std::optional<T>& value, auto&& put_value) {
    out.put(value.has_value());
    if (value) {
        put_value(*value);
    }
}

template <class Enum>
Enum get_enum(Reader& in, Enum last) {
    const auto value = in.get<Enum>();
    if (value > last) {
        in.fail();
        return Enum{};
    }
    return value;
}

KernelId get_kernel(Reader& in) { return KernelId{in.uuid()}; }

// Decoders of other folders say nullopt after they have failed `in`, which is checked at the end.
template <class T>
T value_or_default(std::optional<T> value) {
    return value ? *std::move(value) : T{};
}

void put(Writer& out, const replica::Fence& fence) { out.put(fence.term).put(fence.index); }

replica::Fence get_fence(Reader& in) {
    replica::Fence fence;
    fence.term = in.id<Term>();
    fence.index = in.id<Index>();
    return fence;
}

void put(Writer& out, const std::map<std::string, std::string>& strings) {
    out.put(static_cast<std::uint32_t>(strings.size()));
    for (const auto& [name, value] : strings) {
        out.put(name).put(value);
    }
}

std::map<std::string, std::string> get_strings(Reader& in) {
    std::map<std::string, std::string> strings;
    for (auto n = in.count(2 * sizeof(std::uint32_t)); n > 0 && in.ok(); --n) {
        auto name = in.string();
        strings[std::move(name)] = in.string();
    }
    return strings;
}

// ---- gateway to agent ----

void put(Writer& out, const Hello& rpc) { out.put(rpc.gateway); }
Hello get(Reader& in, Tag<Hello>) { return {in.string()}; }

void put(Writer& out, const HostDirectory& rpc) {
    out.put(static_cast<std::uint32_t>(rpc.addresses.size()));
    for (const auto& [host, address] : rpc.addresses) {
        out.put(host.value).put(address);
    }
}
HostDirectory get(Reader& in, Tag<HostDirectory>) {
    HostDirectory rpc;
    for (auto n = in.count(2 * sizeof(std::uint32_t)); n > 0 && in.ok(); --n) {
        HostId host{in.string()};
        rpc.addresses[std::move(host)] = in.string();
    }
    return rpc;
}

void put(Writer& out, const StartReplica& rpc) {
    out.put(rpc.request).put(rpc.kernel.value).put(rpc.replica);
    put_optional(out, rpc.bootstrap, [&out](const Membership& value) { encode(out, value); });
    encode(out, rpc.options);
}
StartReplica get(Reader& in, Tag<StartReplica>) {
    StartReplica rpc;
    rpc.request = in.get<std::uint64_t>();
    rpc.kernel = get_kernel(in);
    rpc.replica = in.id<ReplicaId>();
    if (replica::get_bool(in)) {
        rpc.bootstrap = value_or_default(decode_membership(in));
    }
    rpc.options = replica::decode_kernel_options(in);
    return rpc;
}

void put(Writer& out, const StopReplica& rpc) {
    out.put(rpc.request).put(rpc.kernel.value).put(rpc.replica);
}
StopReplica get(Reader& in, Tag<StopReplica>) {
    StopReplica rpc;
    rpc.request = in.get<std::uint64_t>();
    rpc.kernel = get_kernel(in);
    rpc.replica = in.id<ReplicaId>();
    return rpc;
}

void put(Writer& out, const ClientMessage& rpc) {
    out.put(rpc.kernel.value).put(rpc.incarnation);
    encode(out, rpc.message);
}
ClientMessage get(Reader& in, Tag<ClientMessage>) {
    ClientMessage rpc;
    rpc.kernel = get_kernel(in);
    rpc.incarnation = in.get<std::uint64_t>();
    rpc.message = value_or_default(jupyter::decode_message(in));
    return rpc;
}

template <class T>
T get_request(Reader& in) {  // what has only `request` and `kernel`
    T rpc;
    rpc.request = in.get<std::uint64_t>();
    rpc.kernel = get_kernel(in);
    return rpc;
}

void put(Writer& out, const Interrupt& rpc) {
    out.put(rpc.request).put(rpc.kernel.value).put(static_cast<std::uint32_t>(rpc.cells.size()));
    for (const auto& cell : rpc.cells) {
        out.put(cell.session).put(cell.msg_id);
    }
    out.put(rpc.leaving);
}
Interrupt get(Reader& in, Tag<Interrupt>) {
    auto rpc = get_request<Interrupt>(in);
    for (auto n = in.count(8); n > 0; --n) {
        CellId cell;
        cell.session = in.string();
        cell.msg_id = in.string();
        rpc.cells.push_back(std::move(cell));
    }
    rpc.leaving = replica::get_bool(in);
    return rpc;
}

void put(Writer& out, const Restart& rpc) {
    out.put(rpc.request).put(rpc.kernel.value).put(rpc.session);
}
Restart get(Reader& in, Tag<Restart>) {
    auto rpc = get_request<Restart>(in);
    rpc.session = in.string();
    return rpc;
}

void put(Writer& out, const Lead& rpc) { out.put(rpc.request).put(rpc.kernel.value); }
Lead get(Reader& in, Tag<Lead>) { return get_request<Lead>(in); }

void put(Writer& out, const ChangeMembers& rpc) {
    out.put(rpc.request).put(rpc.kernel.value);
    put_optional(out, rpc.add,
                 [&out](const auto& value) { out.put(value.first).put(value.second.value); });
    put_optional(out, rpc.remove, [&out](ReplicaId value) { out.put(value); });
    out.put(rpc.cell_may_end);
}
ChangeMembers get(Reader& in, Tag<ChangeMembers>) {
    auto rpc = get_request<ChangeMembers>(in);
    if (replica::get_bool(in)) {
        const auto id = in.id<ReplicaId>();
        rpc.add.emplace(id, HostId{in.string()});
    }
    if (replica::get_bool(in)) {
        rpc.remove = in.id<ReplicaId>();
    }
    rpc.cell_may_end = replica::get_bool(in);
    return rpc;
}

void put(Writer& out, const KillInterpreter& rpc) { out.put(rpc.request).put(rpc.kernel.value); }
KillInterpreter get(Reader& in, Tag<KillInterpreter>) { return get_request<KillInterpreter>(in); }

void put(Writer& out, const InterruptCallback& rpc) { out.put(rpc.kernel.value); }
InterruptCallback get(Reader& in, Tag<InterruptCallback>) { return {get_kernel(in)}; }

void put(Writer& out, const Heard& rpc) {
    out.put(rpc.kernel.value).put(rpc.session).put(rpc.asked_by).put(rpc.msg_id);
    out.put(rpc.output).put(rpc.done);
}
Heard get(Reader& in, Tag<Heard>) {
    Heard rpc;
    rpc.kernel = get_kernel(in);
    rpc.session = in.string();
    rpc.asked_by = in.string();
    rpc.msg_id = in.string();
    rpc.output = in.string();
    rpc.done = replica::get_bool(in);
    return rpc;
}

void put(Writer& out, const Recall& rpc) {
    out.put(rpc.request).put(rpc.kernel.value).put(rpc.session).put(rpc.running);
}
Recall get(Reader& in, Tag<Recall>) {
    auto rpc = get_request<Recall>(in);
    rpc.session = in.string();
    rpc.running = replica::get_bool(in);
    return rpc;
}

void put(Writer& out, const WriteTable& rpc) {
    out.put(rpc.request);
    encode(out, rpc.write);
}
WriteTable get(Reader& in, Tag<WriteTable>) {
    WriteTable rpc;
    rpc.request = in.get<std::uint64_t>();
    rpc.write = replica::decode_table_write(in);
    return rpc;
}

void put(Writer& out, const ReadOutputs& rpc) {
    out.put(rpc.request).put(rpc.kernel.value).put(rpc.session).put(rpc.msg_id);
}
ReadOutputs get(Reader& in, Tag<ReadOutputs>) {
    auto rpc = get_request<ReadOutputs>(in);
    rpc.session = in.string();
    rpc.msg_id = in.string();
    return rpc;
}

// ---- agent to gateway ----

void put(Writer& out, const std::vector<jupyter::Message>& messages) {
    out.put(static_cast<std::uint32_t>(messages.size()));
    for (const auto& message : messages) {
        encode(out, message);
    }
}

std::vector<jupyter::Message> get_messages(Reader& in) {
    constexpr std::size_t kMessageBytesMin = sizeof(jupyter::Channel) + 5 * sizeof(std::uint32_t);
    std::vector<jupyter::Message> messages;
    for (auto n = in.count(kMessageBytesMin); n > 0 && in.ok(); --n) {
        messages.push_back(value_or_default(jupyter::decode_message(in)));
    }
    return messages;
}

void put(Writer& out, const CellOutputs& rpc) {
    out.put(rpc.request).put(rpc.kernel.value).put(rpc.session).put(rpc.state).put(rpc.ending);
    out.put(rpc.reason);
    put(out, rpc.messages);
}
CellOutputs get(Reader& in, Tag<CellOutputs>) {
    auto rpc = get_request<CellOutputs>(in);
    rpc.session = in.string();
    rpc.state = get_enum(in, CellOutputs::State::kEnded);
    rpc.ending = get_enum(in, replica::Ending::kReset);
    rpc.reason = in.string();
    rpc.messages = get_messages(in);
    return rpc;
}

void put(Writer& out, const AgentInfo& rpc) {
    out.put(rpc.host.value).put(rpc.version).put(rpc.cpus).put(rpc.memory_bytes);
}
AgentInfo get(Reader& in, Tag<AgentInfo>) {
    AgentInfo rpc;
    rpc.host = HostId{in.string()};
    rpc.version = in.string();
    rpc.cpus = in.get<std::uint32_t>();
    rpc.memory_bytes = in.get<std::uint64_t>();
    return rpc;
}

void put(Writer& out, const Reply& rpc) {
    out.put(rpc.request).put(rpc.ok).put(rpc.code).put(rpc.what);
}
Reply get(Reader& in, Tag<Reply>) {
    Reply rpc;
    rpc.request = in.get<std::uint64_t>();
    rpc.ok = replica::get_bool(in);
    rpc.code = get_enum(in, Errc::kIo);
    rpc.what = in.string();
    return rpc;
}

void put(Writer& out, const KernelOutput& rpc) {
    out.put(rpc.kernel.value);
    put(out, rpc.fence);
    encode(out, rpc.message);
}
KernelOutput get(Reader& in, Tag<KernelOutput>) {
    KernelOutput rpc;
    rpc.kernel = get_kernel(in);
    rpc.fence = get_fence(in);
    rpc.message = value_or_default(jupyter::decode_message(in));
    return rpc;
}

void put(Writer& out, const CellStarted& rpc) {
    out.put(rpc.kernel.value);
    put(out, rpc.fence);
    out.put(rpc.session).put(rpc.msg_id);
    put(out, rpc.heard);
}
CellStarted get(Reader& in, Tag<CellStarted>) {
    CellStarted rpc;
    rpc.kernel = get_kernel(in);
    rpc.fence = get_fence(in);
    rpc.session = in.string();
    rpc.msg_id = in.string();
    rpc.heard = get_strings(in);
    return rpc;
}

void put(Writer& out, const CellEnded& rpc) {
    out.put(rpc.kernel.value);
    put(out, rpc.fence);
    out.put(rpc.session).put(rpc.msg_id).put(rpc.ending).put(rpc.reason);
    put_optional(out, rpc.reply, [&out](const auto& value) { encode(out, value); });
    put(out, rpc.outputs);
    put(out, rpc.heard);
    out.put(rpc.recalled_by);
}
CellEnded get(Reader& in, Tag<CellEnded>) {
    CellEnded rpc;
    rpc.kernel = get_kernel(in);
    rpc.fence = get_fence(in);
    rpc.session = in.string();
    rpc.msg_id = in.string();
    rpc.ending = get_enum(in, replica::Ending::kReset);
    rpc.reason = in.string();
    if (replica::get_bool(in)) {
        rpc.reply = value_or_default(jupyter::decode_message(in));
    }
    rpc.outputs = get_messages(in);
    rpc.heard = get_strings(in);
    rpc.recalled_by = in.string();
    return rpc;
}

void put(Writer& out, const CatchUp& rpc) {
    out.put(rpc.kernel.value).put(rpc.session);
    out.put(static_cast<std::uint32_t>(rpc.done.size()));
    for (const auto& [session, msg_id] : rpc.done) {
        out.put(session).put(msg_id);
    }
    out.put(rpc.asked_by).put(rpc.msg_id).put(rpc.knows_it_runs).put(rpc.heard);
    put(out, rpc.outputs);
}
CatchUp get(Reader& in, Tag<CatchUp>) {
    CatchUp rpc;
    rpc.kernel = get_kernel(in);
    rpc.session = in.string();
    for (auto n = in.count(2 * sizeof(std::uint32_t)); n > 0 && in.ok(); --n) {
        auto session = in.string();
        rpc.done.emplace_back(std::move(session), in.string());
    }
    rpc.asked_by = in.string();
    rpc.msg_id = in.string();
    rpc.knows_it_runs = replica::get_bool(in);
    rpc.heard = in.string();
    rpc.outputs = get_messages(in);
    return rpc;
}

void put(Writer& out, const KernelStatus& rpc) {
    out.put(rpc.kernel.value).put(rpc.replica).put(rpc.host.value).put(rpc.role).put(rpc.term);
    out.put(rpc.leader);
    encode(out, rpc.membership);
    out.put(rpc.settled);
    encode(out, rpc.options);
    out.put(rpc.sequence).put(rpc.incarnation).put(rpc.executor).put(rpc.queued).put(rpc.state);
    out.put(rpc.interpreter).put(rpc.state_bytes).put(rpc.process);
}
KernelStatus get(Reader& in, Tag<KernelStatus>) {
    KernelStatus rpc;
    rpc.kernel = get_kernel(in);
    rpc.replica = in.id<ReplicaId>();
    rpc.host = HostId{in.string()};
    rpc.role = get_enum(in, raft::Role::kLeader);
    rpc.term = in.id<Term>();
    rpc.leader = in.id<ReplicaId>();
    rpc.membership = value_or_default(decode_membership(in));
    rpc.settled = replica::get_bool(in);
    rpc.options = replica::decode_kernel_options(in);
    rpc.sequence = in.id<Sequence>();
    rpc.incarnation = in.get<std::uint64_t>();
    rpc.executor = in.id<ReplicaId>();
    rpc.queued = in.get<std::uint32_t>();
    rpc.state = get_enum(in, ExecutionState::kDead);
    rpc.interpreter = in.string();
    rpc.state_bytes = in.get<std::uint64_t>();
    rpc.process = in.string();
    return rpc;
}

void put(Writer& out, const ReplicaGone& rpc) { out.put(rpc.kernel.value).put(rpc.replica); }
ReplicaGone get(Reader& in, Tag<ReplicaGone>) {
    ReplicaGone rpc;
    rpc.kernel = get_kernel(in);
    rpc.replica = in.id<ReplicaId>();
    return rpc;
}

void put(Writer& out, const TableRows& rpc) {
    out.put(rpc.group.value).put(rpc.everything).put(rpc.base).put(rpc.index);
    out.put(static_cast<std::uint32_t>(rpc.rows.size()));
    for (const auto& row : rpc.rows) {
        out.put(row.key);
        put_optional(out, row.value, [&out](const Bytes& value) { out.put(value); });
        out.put(row.version);
    }
    out.put(static_cast<std::uint32_t>(rpc.writers.size()));
    for (const auto& writer : rpc.writers) {
        out.put(writer.writer).put(writer.sequence);
        replica::encode(out, writer.outcomes);
    }
}
TableRows get(Reader& in, Tag<TableRows>) {
    constexpr std::size_t kRowBytesMin = sizeof(std::uint32_t) + 1 + sizeof(std::uint64_t);
    constexpr std::size_t kWriterBytesMin = 3 * sizeof(std::uint64_t) + sizeof(std::uint32_t);
    TableRows rpc;
    rpc.group = get_kernel(in);
    rpc.everything = replica::get_bool(in);
    rpc.base = in.id<Index>();
    rpc.index = in.id<Index>();
    for (auto n = in.count(kRowBytesMin); n > 0 && in.ok(); --n) {
        TableRow row{.key = in.string(), .value = {}, .version = {}};
        if (replica::get_bool(in)) {
            row.value = in.bytes();
        }
        row.version = in.id<Index>();
        rpc.rows.push_back(std::move(row));
    }
    for (auto n = in.count(kWriterBytesMin); n > 0 && in.ok(); --n) {
        TableWriter writer;
        writer.writer = in.uuid();
        writer.sequence = in.get<std::uint64_t>();
        writer.outcomes = replica::decode_table_outcomes(in);
        rpc.writers.push_back(std::move(writer));
    }
    return rpc;
}

void put(Writer& out, const ConnectedGateways& rpc) {
    out.put(rpc.host.value).put(static_cast<std::uint32_t>(rpc.gateways.size()));
    for (const auto& gateway : rpc.gateways) {
        out.put(gateway);
    }
}
ConnectedGateways get(Reader& in, Tag<ConnectedGateways>) {
    ConnectedGateways rpc;
    rpc.host = HostId{in.string()};
    for (auto n = in.count(sizeof(std::uint32_t)); n > 0 && in.ok(); --n) {
        rpc.gateways.insert(in.string());
    }
    return rpc;
}

// The position in Rpc is the kind on the wire: new kinds go to the end.
template <std::size_t Kind = 0>
std::optional<Rpc> get_kind(std::size_t kind, Reader& in) {
    if constexpr (Kind == std::variant_size_v<Rpc>) {
        return std::nullopt;
    } else {
        if (kind == Kind) {
            return get(in, Tag<std::variant_alternative_t<Kind, Rpc>>{});
        }
        return get_kind<Kind + 1>(kind, in);
    }
}

}  // namespace

Bytes encode(const Rpc& rpc) {
    Writer out;
    out.put(kVersion).put(static_cast<std::uint8_t>(rpc.index()));
    std::visit([&out](const auto& body) { put(out, body); }, rpc);
    return out.take_bytes();
}

std::optional<Rpc> decode_rpc(std::string_view bytes) {
    Reader in(bytes);
    if (in.get<std::uint8_t>() != kVersion) {
        return std::nullopt;
    }
    auto rpc = get_kind(in.get<std::uint8_t>(), in);
    if (!in.done()) {
        return std::nullopt;
    }
    return rpc;
}

}  // namespace nbos::cluster
