#include "tests/cluster/linearizability.h"

#include <algorithm>
#include <stdexcept>
#include <unordered_map>
#include <utility>

namespace nbos::testing::linearizability {
namespace {

// A set of operations.
class Bits {
public:
    explicit Bits(std::size_t size) : words_((size + 63) / 64) {}

    bool has(std::size_t i) const { return (words_[i / 64] >> (i % 64) & 1U) != 0; }
    void set(std::size_t i) { words_[i / 64] |= 1ULL << (i % 64); }
    void clear(std::size_t i) { words_[i / 64] &= ~(1ULL << (i % 64)); }
    bool is_subset_of(const Bits& other) const {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            if ((words_[i] & ~other.words_[i]) != 0) {
                return false;
            }
        }
        return true;
    }
    std::uint64_t hash() const {
        std::uint64_t h = 0;
        for (const auto word : words_) {
            h = (h ^ word) * 0x9E3779B97F4A7C15ULL;
            h ^= h >> 32U;
        }
        return h;
    }
    bool operator==(const Bits&) const = default;

private:
    std::vector<std::uint64_t> words_;
};

// One way to order what has returned so far, and perhaps some of what has not.
struct Way {
    Bits early;    // placed and not returned yet, of those that will
    Bits unknown;  // placed, of those that never return
    std::size_t unknowns = 0;
    StateId state = 0;
    std::size_t last = 0;  // the chain of all that is placed, in Search::chain_; 0: nothing
};

// Whoever has the same state and has placed the same, but fewer of those that need not be placed,
// can do everything that the other can.
class Searched {
public:
    // False when the way can lead to nothing new. To be asked in order of `unknowns`.
    bool add(const Way& way) {
        auto& tried = tried_[{way.early, way.state}];
        for (const auto& other : tried) {
            if (other.is_subset_of(way.unknown)) {
                return false;
            }
        }
        tried.push_back(way.unknown);
        return true;
    }

private:
    struct Key {
        Bits early;
        StateId state;
        bool operator==(const Key&) const = default;
    };
    struct Hash {
        std::size_t operator()(const Key& key) const {
            return static_cast<std::size_t>(key.early.hash() + key.state);
        }
    };
    std::unordered_map<Key, std::vector<Bits>, Hash> tried_;
};

struct Event {
    HistoryTime at;
    bool is_return;  // after the calls of the same time: they overlap
    std::size_t operation;
    auto operator<=>(const Event&) const = default;
};

class Search {
public:
    Search(const std::vector<Interval>& operations, const Step& step, std::uint64_t steps_max)
        : operations_(operations), step_(step), steps_max_(steps_max) {
        for (std::size_t i = 0; i < operations.size(); ++i) {
            const auto& [called_at, returned_at] = operations[i];
            events_.push_back({called_at, false, i});
            if (returned_at) {
                if (*returned_at < called_at) {
                    throw std::invalid_argument("an operation returned before it was called");
                }
                events_.push_back({*returned_at, true, i});
            }
        }
        std::sort(events_.begin(), events_.end());
        const Bits none(operations.size());
        ways_.push_back({none, none});
    }

    Verdict run() {
        for (const auto& event : events_) {
            if (!event.is_return) {
                open_.push_back(event.operation);
                continue;
            }
            verdict_.outcome = place_before_return(event.operation);
            if (verdict_.outcome != Linearizability::kOk) {
                note_witness(event.operation);
                break;
            }
            std::erase(open_, event.operation);
        }
        return verdict_;
    }

private:
    struct Placed {
        std::size_t operation;
        std::size_t before;
    };

    // Replaces the ways by those that have placed `operation`, with what they must place before it
    // and nothing behind it: that can wait for the next return.
    Linearizability place_before_return(std::size_t operation) {
        std::multimap<std::size_t, Way> to_try;
        for (const auto& way : ways_) {
            to_try.emplace(way.unknowns, way);
        }
        Searched searched;
        std::vector<Way> through;
        while (!to_try.empty()) {
            auto way = std::move(to_try.extract(to_try.begin()).mapped());
            if (!searched.add(way)) {
                continue;
            }
            if (way.early.has(operation)) {
                way.early.clear(operation);
                through.push_back(std::move(way));
                continue;
            }
            for (const auto next : open_) {
                if (way.early.has(next) || way.unknown.has(next)) {
                    continue;
                }
                if (verdict_.steps == steps_max_) {
                    return Linearizability::kUndecided;
                }
                if (auto further = place(way, next)) {
                    const auto unknowns = further->unknowns;
                    to_try.emplace(unknowns, *std::move(further));
                }
            }
        }
        if (through.empty()) {
            return Linearizability::kViolated;
        }
        ways_ = std::move(through);
        return Linearizability::kOk;
    }

    std::optional<Way> place(const Way& way, std::size_t operation) {
        ++verdict_.steps;
        const auto state = step_(operation, way.state);
        const bool returns = operations_[operation].returned_at.has_value();
        // Without a result and without an effect: as if it had not happened yet.
        if (!state || (!returns && *state == way.state)) {
            return std::nullopt;
        }
        auto next = way;
        (returns ? next.early : next.unknown).set(operation);
        next.unknowns += returns ? 0U : 1U;
        next.state = *state;
        chain_.push_back({operation, way.last});
        next.last = chain_.size() - 1;
        return next;
    }

    void note_witness(std::size_t blocked) {
        verdict_.blocked = blocked;
        for (const auto& way : ways_) {
            std::vector<std::size_t> placed;
            for (auto i = way.last; i != 0; i = chain_[i].before) {
                placed.push_back(chain_[i].operation);
            }
            if (placed.size() >= verdict_.placed.size()) {
                verdict_.placed.assign(placed.rbegin(), placed.rend());
            }
        }
        std::erase(open_, blocked);
        for (const auto operation : verdict_.placed) {
            std::erase(open_, operation);
        }
        verdict_.open = open_;
    }

    const std::vector<Interval>& operations_;
    const Step& step_;
    std::uint64_t steps_max_;
    std::vector<Event> events_;
    std::vector<std::size_t> open_;  // called, and not returned
    std::vector<Way> ways_;
    std::vector<Placed> chain_{{0, 0}};
    Verdict verdict_;
};

}  // namespace

Verdict search(const std::vector<Interval>& operations, const Step& step, std::uint64_t steps_max) {
    return Search(operations, step, steps_max).run();
}

std::string explain(const Verdict& verdict, const std::string& key,
                    const std::function<std::string(std::size_t)>& line) {
    if (verdict.outcome == Linearizability::kOk) {
        return {};
    }
    constexpr std::size_t kPlacedMax = 12;  // of the last ones: the state comes from them
    const auto& placed = verdict.placed;
    const auto first = placed.size() > kPlacedMax ? placed.size() - kPlacedMax : 0;
    std::string text = key;
    text += verdict.outcome == Linearizability::kUndecided
                ? " is undecided after " + std::to_string(verdict.steps) + " steps"
                : " is not linearizable";
    text += ". The longest order found has " + std::to_string(placed.size()) + " operations";
    text += first > 0 ? ", ending in\n" : "\n";
    for (auto i = first; i < placed.size(); ++i) {
        text += "  " + line(placed[i]) + '\n';
    }
    if (verdict.blocked) {
        text += "after which this one fits nowhere\n  " + line(*verdict.blocked) + '\n';
    }
    if (!verdict.open.empty()) {
        text += "nor helps any of those that were called by then\n";
        for (const auto i : verdict.open) {
            text += "  " + line(i) + '\n';
        }
    }
    return text;
}

}  // namespace nbos::testing::linearizability
