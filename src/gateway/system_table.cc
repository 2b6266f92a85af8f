#include "gateway/system_table.h"

#include <algorithm>
#include <utility>

namespace nbos::gateway {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTimeout{8'000};  // an election, and a host that is noticed to be gone
constexpr milliseconds kRepeat{1'000};
constexpr milliseconds kRestorePause{2'000};
constexpr milliseconds kPause{100};  // after a refusal
constexpr std::size_t kFlightBytesMax = replica::kTableWriteBytesMax / 2;

std::size_t size_of(const replica::TableTransaction& transaction) {
    std::size_t bytes = 0;
    for (const auto& change : transaction.changes) {
        bytes += change.key.size() + (change.value ? change.value->size() : 0);
    }
    return bytes;
}

}  // namespace

SystemTable::SystemTable(Ports ports, Uuid writer) : ports_(std::move(ports)), writer_(writer) {}

const SystemTable::Row* SystemTable::find(const std::string& key) const {
    const auto row = rows_.find(key);
    return row == rows_.end() ? nullptr : &row->second;
}

void SystemTable::write(replica::TableTransaction transaction, Done done) {
    const replica::TableWrite alone{.transactions = {transaction}};
    if (auto good = replica::check(alone); !good) {
        refused_.emplace_back(std::move(done), std::move(good).error());
        return;
    }
    waiting_.push_back({std::move(transaction), std::move(done), ports_.clock.now() + kTimeout});
    pump();
}

void SystemTable::pump() {
    if (!flight_ && !waiting_.empty()) {
        begin_flight();
    }
    if (flight_) {
        send(*flight_);
    }
}

void SystemTable::begin_flight() {
    flight_ = Flight{};
    flight_->deadline = waiting_.front().deadline;
    auto& write = flight_->rpc.write;
    write.writer = writer_;
    write.sequence = ++sequence_;
    flight_->rpc.request = writer_.hi + sequence_;
    std::size_t bytes = 0;
    while (!waiting_.empty() && bytes < kFlightBytesMax) {
        bytes += size_of(waiting_.front().transaction);
        write.transactions.push_back(waiting_.front().transaction);
        flight_->writes.push_back(std::move(waiting_.front()));
        waiting_.pop_front();
    }
}

void SystemTable::send(Flight& flight) {
    const auto leader = ports_.leader();
    const auto now = ports_.clock.now();
    if (!leader || !ports_.hosts.up(*leader) || now < flight.not_before) {
        return;
    }
    const auto connection = ports_.hosts.connection(*leader);
    if (flight.sent_to == *leader && flight.connection == connection && now < flight.repeat_at) {
        return;
    }
    flight.sent_to = *leader;
    flight.connection = connection;
    flight.repeat_at = now + kRepeat;
    ++flight.unanswered;
    ports_.link.send(*leader, flight.rpc);
}

void SystemTable::replied(const cluster::Reply& reply) {
    if (!flight_ || reply.request != flight_->rpc.request || reply.ok) {
        return;
    }
    if (reply.code == Errc::kInvalid) {
        auto writes = std::move(flight_->writes);
        flight_.reset();
        for (auto& write : writes) {
            refused_.emplace_back(std::move(write.done),
                                  Error{reply.code, Certainty::kDidNotHappen, reply.what});
        }
        return;
    }
    flight_->sent_to = {};
    flight_->unanswered -= std::min<std::size_t>(flight_->unanswered, 1);
    flight_->not_before = ports_.clock.now() + kPause;
}

void SystemTable::rows_came(const cluster::TableRows& news,
                            const std::function<void(const std::string& key)>& changed) {
    const bool same = news.group == group_;
    const bool follows = known_ && same && news.base <= index_ && news.index > index_;
    if (news.group < group_ ||
        (news.everything ? known_ && same && news.index < index_ : !follows)) {
        return;  // of a former leader, or with a gap: all rows follow
    }
    for (const auto& key : take_changes(news)) {
        changed(key);
    }
    settle(news);
    pump();
}

std::vector<std::string> SystemTable::take_changes(const cluster::TableRows& news) {
    std::map<std::string, Row> before;
    if (news.everything) {
        before = std::exchange(rows_, {});
    }
    std::vector<std::string> keys;
    for (const auto& row : news.rows) {
        const auto old = before.extract(row.key);
        if (row.value) {
            rows_[row.key] = {*row.value, row.version};
        } else {
            rows_.erase(row.key);
        }
        if (old.empty() || old.mapped().version != row.version) {
            keys.push_back(row.key);
        }
    }
    const bool begun_anew = news.group != group_;
    group_ = news.group;
    index_ = news.index;
    known_ = true;
    for (auto& [key, row] : before) {
        if (begun_anew || row.version == Index{}) {
            rows_[key] = {std::move(row.value), Index{}};
        } else {
            keys.push_back(key);  // erased meanwhile
        }
        if (begun_anew) {
            restore(key);
        }
    }
    return keys;
}

// Unless another gateway has, or somebody has changed it since.
void SystemTable::restore(const std::string& key) {
    const auto* row = find(key);
    if (row == nullptr || row->version > Index{}) {
        return;
    }
    write({.conditions = {{key, Index{}}}, .changes = {{key, row->value}}},
          [this, key](const Result<replica::TableOutcome>& written) {
              if (!written) {
                  unrestored_.insert(key);
              }
          });
}

void SystemTable::settle(const cluster::TableRows& news) {
    const auto mine = std::find_if(news.writers.begin(), news.writers.end(),
                                   [this](const auto& writer) { return writer.writer == writer_; });
    if (!flight_ || mine == news.writers.end() || mine->sequence != flight_->rpc.write.sequence) {
        return;
    }
    auto writes = std::move(flight_->writes);
    flight_.reset();
    for (std::size_t n = 0; n < writes.size(); ++n) {
        const auto outcome =
            n < mine->outcomes.size() ? mine->outcomes[n] : replica::TableOutcome::kConflict;
        if (outcome == replica::TableOutcome::kFull) {
            writes[n].done(Error{Errc::kExhausted, Certainty::kDidNotHappen,
                                 "the cluster's own tables are full; delete kernels that nobody "
                                 "needs (`nbos kernel list`)"});
        } else {
            writes[n].done(outcome);
        }
    }
}

void SystemTable::fail_late() {
    const auto now = ports_.clock.now();
    std::vector<std::pair<Done, Error>> late = std::exchange(refused_, {});
    if (flight_ && now >= flight_->deadline) {
        const bool sent = flight_->unanswered > 0;
        for (auto& write : flight_->writes) {
            late.emplace_back(
                std::move(write.done),
                Error{Errc::kExhausted, sent ? Certainty::kUnknown : Certainty::kDidNotHappen,
                      ports_.why_unwritable() +
                          (sent ? "; what was asked for now may still be done then" : "")});
        }
        flight_.reset();
    }
    while (!waiting_.empty() && now >= waiting_.front().deadline) {
        late.emplace_back(
            std::move(waiting_.front().done),
            Error{Errc::kExhausted, Certainty::kDidNotHappen, ports_.why_unwritable()});
        waiting_.pop_front();
    }
    for (auto& [done, error] : late) {
        done(std::move(error));
    }
}

void SystemTable::tick() {
    if (ports_.clock.now() >= restore_again_ && !unrestored_.empty()) {
        restore_again_ = ports_.clock.now() + kRestorePause;
        for (const auto& key : std::exchange(unrestored_, {})) {
            restore(key);
        }
    }
    fail_late();
    pump();
}

}  // namespace nbos::gateway
