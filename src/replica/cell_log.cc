#include "replica/cell_log.h"

#include <utility>

#include "base/wire.h"

namespace nbos::replica {
namespace {

constexpr std::uint8_t kVersion = 1;

// The order is the wire format: new kinds go to the end, as in CellEntry.
enum class Kind : std::uint8_t {
    kConfigure,
    kSubmit,
    kClaim,
    kYield,
    kResultPart,
    kResult,
    kExecutorLost,
    kCancel,
    kReset,
};
static_assert(std::variant_size_v<CellEntry> == static_cast<std::size_t>(Kind::kReset) + 1);

void put(Writer& out, const Configure& entry) { encode(out, entry.options); }
void put(Writer& out, const Submit& entry) {
    out.put(entry.session).put(entry.msg_id).put(entry.stop_on_error).put(entry.numbered);
    out.put(entry.request).put(entry.incarnation);
}
void put(Writer& out, const Claim& entry) {
    out.put(entry.cell).put(entry.epoch).put(entry.replica);
}
void put(Writer& out, const Yield& entry) {
    out.put(entry.cell).put(entry.epoch).put(entry.replica);
}
void put(Writer& out, const ResultPart& entry) {
    out.put(entry.cell).put(entry.epoch).put(entry.replica).put(entry.number).put(entry.slice);
}
void put(Writer& out, const Result& entry) {
    out.put(entry.cell).put(entry.epoch).put(entry.replica).put(entry.base).put(entry.parts);
    out.put(entry.delta).put(entry.digest).put(entry.outcome).put(entry.reply).put(entry.outputs);
}
void put(Writer& out, const ExecutorLost& entry) {
    out.put(entry.cell).put(entry.epoch).put(entry.reason);
}
void put(Writer& out, const Cancel& entry) {
    out.put(entry.session).put(entry.msg_id).put(entry.reason);
}
void put(Writer& out, const Reset& entry) { out.put(entry.session); }

Submit get_submit(Reader& in) {
    Submit entry;
    entry.session = in.string();
    entry.msg_id = in.string();
    entry.stop_on_error = get_bool(in);
    entry.numbered = get_bool(in);
    entry.request = in.bytes();
    entry.incarnation = in.get<std::uint64_t>();
    return entry;
}

template <class Entry>  // Claim and Yield
Entry get_claim(Reader& in) {
    Entry entry;
    entry.cell = in.id<CellNumber>();
    entry.epoch = in.id<Epoch>();
    entry.replica = in.id<ReplicaId>();
    return entry;
}

ResultPart get_part(Reader& in) {
    ResultPart entry;
    entry.cell = in.id<CellNumber>();
    entry.epoch = in.id<Epoch>();
    entry.replica = in.id<ReplicaId>();
    entry.number = in.get<std::uint32_t>();
    entry.slice = in.bytes();
    return entry;
}

Result get_result(Reader& in) {
    Result entry;
    entry.cell = in.id<CellNumber>();
    entry.epoch = in.id<Epoch>();
    entry.replica = in.id<ReplicaId>();
    entry.base = in.id<Sequence>();
    entry.parts = in.get<std::uint32_t>();
    entry.delta = in.bytes();
    entry.digest = in.get<std::uint64_t>();
    entry.outcome = get_outcome(in);
    entry.reply = in.bytes();
    entry.outputs = in.bytes();
    return entry;
}

ExecutorLost get_lost(Reader& in) {
    ExecutorLost entry;
    entry.cell = in.id<CellNumber>();
    entry.epoch = in.id<Epoch>();
    entry.reason = in.string();
    return entry;
}

CellEntry get_entry(Kind kind, Reader& in) {
    switch (kind) {
        case Kind::kConfigure:
            return Configure{decode_kernel_options(in)};
        case Kind::kSubmit:
            return get_submit(in);
        case Kind::kClaim:
            return get_claim<Claim>(in);
        case Kind::kYield:
            return get_claim<Yield>(in);
        case Kind::kResultPart:
            return get_part(in);
        case Kind::kResult:
            return get_result(in);
        case Kind::kExecutorLost:
            return get_lost(in);
        case Kind::kCancel: {
            Cancel entry;
            entry.session = in.string();
            entry.msg_id = in.string();
            entry.reason = in.string();
            return entry;
        }
        case Kind::kReset:
            return Reset{in.string()};
    }
    in.fail();
    return Reset{};
}

}  // namespace

bool get_bool(Reader& in) {
    const auto byte = in.get<std::uint8_t>();
    if (byte > 1) {
        in.fail();
    }
    return byte == 1;
}

Outcome get_outcome(Reader& in) {
    const auto outcome = in.get<Outcome>();
    if (outcome > Outcome::kAborted) {
        in.fail();
        return Outcome::kError;
    }
    return outcome;
}

void encode(Writer& out, const KernelOptions& options) {
    out.put(options.spec).put(options.session).put(options.username).put(options.cwd);
    out.put(static_cast<std::uint32_t>(options.env.size()));
    for (const auto& [name, value] : options.env) {
        out.put(name).put(value);
    }
    out.put(options.replicas).put(options.silence_grace_s);
}

KernelOptions decode_kernel_options(Reader& in) {
    KernelOptions options;
    options.spec = in.string();
    options.session = in.string();
    options.username = in.string();
    options.cwd = in.string();
    const auto n = in.count(2 * sizeof(std::uint32_t));
    for (std::uint32_t i = 0; i < n && in.ok(); ++i) {
        auto name = in.string();
        options.env[std::move(name)] = in.string();
    }
    options.replicas = in.get<std::uint32_t>();
    options.silence_grace_s = in.get<std::uint32_t>();
    return options;
}

Bytes encode(const CellEntry& entry) {
    Writer out;
    out.put(kVersion).put(static_cast<Kind>(entry.index()));
    std::visit([&out](const auto& body) { put(out, body); }, entry);
    return out.take_bytes();
}

std::optional<CellEntry> decode_cell_entry(std::string_view bytes) {
    Reader in(bytes);
    if (in.get<std::uint8_t>() != kVersion) {
        return std::nullopt;
    }
    const auto kind = in.get<Kind>();
    auto entry = get_entry(kind, in);
    if (!in.done()) {
        return std::nullopt;
    }
    return entry;
}

}  // namespace nbos::replica
