#include "raft/messages.h"

#include <array>

namespace nbos::raft {
namespace {

// Term, index, kind, proposer, sequence, length of the data.
constexpr std::size_t kEntryOverhead = 8 + 8 + 1 + 8 + 8 + 4;

constexpr std::uint8_t kReject = 1;
constexpr std::uint8_t kForce = 2;
constexpr std::uint8_t kLastChunk = 4;

// Most fields of most messages are zero: a mask says which follow.
constexpr std::uint16_t kHasEntries = 1U << 14U;
constexpr std::uint16_t kHasChunk = 1U << 15U;
constexpr std::size_t kNumbers = 9;

std::array<std::uint64_t, kNumbers> numbers_of(const Message& m) {
    return {m.index.value, m.log_term.value, m.commit.value, m.hint_index.value, m.hint_term.value,
            m.round,       m.offset,         m.context,      m.target.value};
}

void set_numbers(Message& m, const std::array<std::uint64_t, kNumbers>& n) {
    m.index.value = n[0];
    m.log_term.value = n[1];
    m.commit.value = n[2];
    m.hint_index.value = n[3];
    m.hint_term.value = n[4];
    m.round = n[5];
    m.offset = n[6];
    m.context = n[7];
    m.target.value = n[8];
}

}  // namespace

std::size_t size_in_bytes(const Entry& entry) { return kEntryOverhead + entry.data.size(); }

void encode(Writer& out, const Entry& entry) {
    out.put(entry.term).put(entry.index).put(entry.kind);
    out.put(entry.proposal.proposer).put(entry.proposal.sequence).put(entry.data);
}

std::optional<Entry> decode_entry(Reader& in) {
    Entry entry;
    entry.term = in.id<Term>();
    entry.index = in.id<Index>();
    entry.kind = in.get<EntryKind>();
    entry.proposal.proposer = in.id<ReplicaId>();
    entry.proposal.sequence = in.get<std::uint64_t>();
    entry.data = in.bytes();
    if (entry.kind > EntryKind::kMembership) {
        in.fail();
    }
    if (!in.ok()) {
        return std::nullopt;
    }
    return entry;
}

void encode(Writer& out, const HardState& state) {
    out.put(state.term).put(state.vote).put(state.commit).put(state.incarnation);
}

HardState decode_hard_state(Reader& in) {
    HardState state;
    state.term = in.id<Term>();
    state.vote = in.id<ReplicaId>();
    state.commit = in.id<Index>();
    state.incarnation = in.get<std::uint64_t>();
    return state;
}

void encode(Writer& out, const Snapshot& snapshot) {
    out.put(snapshot.index).put(snapshot.term);
    nbos::encode(out, snapshot.membership);
    out.put(static_cast<std::uint32_t>(snapshot.applied_proposals.size()));
    for (const auto& [proposer, applied] : snapshot.applied_proposals) {
        out.put(proposer).put(applied.through);
        out.put(static_cast<std::uint32_t>(applied.above.size()));
        for (const auto sequence : applied.above) {
            out.put(sequence);
        }
    }
    out.put(snapshot.state);
}

std::optional<Snapshot> decode_snapshot(Reader& in) {
    Snapshot snapshot;
    snapshot.index = in.id<Index>();
    snapshot.term = in.id<Term>();
    auto membership = decode_membership(in);
    if (!membership) {
        return std::nullopt;
    }
    snapshot.membership = *std::move(membership);
    const auto proposers = in.count(8 + 8 + 4);
    for (std::uint32_t i = 0; i < proposers; ++i) {
        const auto proposer = in.id<ReplicaId>();
        auto& applied = snapshot.applied_proposals[proposer];
        applied.through = in.get<std::uint64_t>();
        const auto n = in.count(sizeof(std::uint64_t));
        applied.above.resize(n);
        for (auto& sequence : applied.above) {
            sequence = in.get<std::uint64_t>();
        }
    }
    snapshot.state = in.bytes();
    if (!in.ok()) {
        return std::nullopt;
    }
    return snapshot;
}

void encode(Writer& out, const Message& m) {
    const auto numbers = numbers_of(m);
    std::uint16_t mask = 0;
    for (std::size_t i = 0; i < kNumbers; ++i) {
        if (numbers[i] != 0) {
            mask = static_cast<std::uint16_t>(mask | (1U << i));
        }
    }
    mask = static_cast<std::uint16_t>(mask | (m.entries.empty() ? 0U : kHasEntries) |
                                      (m.chunk.empty() ? 0U : kHasChunk));
    const auto flags = static_cast<std::uint8_t>(
        (m.reject ? kReject : 0U) | (m.force ? kForce : 0U) | (m.last_chunk ? kLastChunk : 0U));
    out.put(m.kind).put(flags).put(mask);
    out.put(m.group).put(m.from).put(m.to).put(m.term);
    for (const auto number : numbers) {
        if (number != 0) {
            out.put(number);
        }
    }
    if (!m.entries.empty()) {
        out.put(static_cast<std::uint32_t>(m.entries.size()));
        for (const auto& entry : m.entries) {
            encode(out, entry);
        }
    }
    if (!m.chunk.empty()) {
        out.put(m.chunk);
    }
}

std::optional<Message> decode_message(Reader& in) {
    Message m;
    m.kind = in.get<MessageKind>();
    const auto flags = in.get<std::uint8_t>();
    const auto mask = in.get<std::uint16_t>();
    constexpr auto kKnown = ((1U << kNumbers) - 1U) | kHasEntries | kHasChunk;
    if (m.kind > MessageKind::kWake || flags >= 8 || (mask & ~kKnown) != 0) {
        in.fail();
    }
    m.reject = (flags & kReject) != 0;
    m.force = (flags & kForce) != 0;
    m.last_chunk = (flags & kLastChunk) != 0;
    m.group = GroupId{in.uuid()};
    m.from = in.id<ReplicaId>();
    m.to = in.id<ReplicaId>();
    m.term = in.id<Term>();
    std::array<std::uint64_t, kNumbers> numbers{};
    for (std::size_t i = 0; i < kNumbers; ++i) {
        if ((mask & (1U << i)) != 0) {
            numbers[i] = in.get<std::uint64_t>();
        }
    }
    set_numbers(m, numbers);
    if ((mask & kHasEntries) != 0) {
        const auto n = in.count(kEntryOverhead);
        m.entries.reserve(n);
        for (std::uint32_t i = 0; i < n && in.ok(); ++i) {
            if (auto entry = decode_entry(in)) {
                m.entries.push_back(*std::move(entry));
            }
        }
    }
    if ((mask & kHasChunk) != 0) {
        m.chunk = in.bytes();
    }
    if (!in.ok()) {
        return std::nullopt;
    }
    return m;
}

}  // namespace nbos::raft
