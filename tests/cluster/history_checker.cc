#include "tests/cluster/history_checker.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "tests/cluster/history_answers.h"

namespace nbos::testing {
namespace {

enum class Effect : std::uint8_t { kNone, kMaybe, kYes };

// A state that a cell printed: the values of the names that it showed.
struct Observation {
    bool whole = false;  // a name that is not shown is empty
    std::map<std::string, std::string> values;
};

struct Cell {
    std::string key;
    Record asked;
    std::size_t asked_at = 0;  // place in the history
    std::uint64_t asked_last_ms = 0;
    std::size_t answered_at = 0;
    const Record* reply = nullptr;
    std::size_t began = 0;
    std::set<std::uint64_t> counts;
    std::string speaker;  // whose count it is: of the execute_input or reply
    std::set<std::string> whos;
    Observation seen;

    bool is_cell() const { return asked.op != "ask" && asked.op != "comm"; }
    std::uint64_t count() const { return counts.empty() ? 0 : *counts.begin(); }
    bool changes() const {
        const auto& op = asked.op;
        return op == "append" || op == "add" || op == "fail" || op == "input";
    }
    Effect effect() const {
        if (reply == nullptr) {
            return Effect::kMaybe;
        }
        if (reply->state == "ok" || (asked.op == "fail" && reply->ename == "UserError")) {
            return Effect::kYes;
        }
        const auto& why = reply->ename;
        const bool never = reply->state == "aborted" || why == "ExecutorLost" ||
                           why == "InvalidRequest" || why == "TooManyCells";
        return never ? Effect::kNone : Effect::kMaybe;
    }
    bool counted() const { return reply != nullptr && effect() == Effect::kYes && count() > 0; }
};

std::vector<std::string> split(const std::string& text, char by) {
    std::vector<std::string> parts;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, by);) {
        parts.push_back(part);
    }
    return parts;
}

class Checker {
public:
    Checker(const History& history, CheckerOptions options)
        : history_(history), options_(options) {}

    std::vector<BrokenRule> run() {
        for (std::size_t i = 0; i < history_.size(); ++i) {
            read(i);
        }
        AnswerChecker answers(options_);
        for (const auto& record : history_) {
            answers.read(record);
        }
        for (auto& broken : answers.finish()) {
            broken_.push_back(std::move(broken));
        }
        for (const auto& [key, cell] : cells_) {
            check_alone(cell);
        }
        check_counts();
        check_order();
        check_states();
        check_sessions();
        check_liveness();
        return std::move(broken_);
    }

    HistoryFigures figures() {
        HistoryFigures figures;
        for (std::size_t i = 0; i < history_.size(); ++i) {
            read(i);
        }
        for (const auto& [key, cell] : cells_) {
            ++figures.asked;
            if (cell.reply != nullptr) {
                figures.ok += cell.reply->state == "ok" ? 1 : 0;
                figures.lost += cell.reply->ename == "ExecutorLost" ? 1 : 0;
                figures.aborted += cell.reply->state == "aborted" ? 1 : 0;
            }
            figures.observations += cell.seen.values.empty() && !cell.seen.whole ? 0 : 1;
        }
        return figures;
    }

private:
    void say(std::string rule, std::string what, std::uint64_t at_ms) {
        broken_.push_back({std::move(rule), std::move(what), at_ms});
    }

    void read(std::size_t at);
    void hear(Cell& cell, const Record& record, std::size_t at);
    void check_alone(const Cell& cell);
    void check_counts();
    void check_order();
    void check_states();
    void check_observation(const Cell& observer);
    void check_list(const Cell& observer, const std::string& name, const std::string& value);
    void check_number(const Cell& observer, const std::string& name, const std::string& value);
    void check_sessions();
    void check_liveness();
    std::vector<const Cell*> changes_of(const std::string& kernel, const std::string& name) const;

    const History& history_;
    const CheckerOptions options_;
    std::map<std::string, Cell> cells_;
    std::map<std::string, std::size_t> restarts_;              // kernel -> how often
    std::map<std::string, std::set<std::string>> speakers_;    // kernel -> session ids heard
    std::map<std::string, std::vector<const Cell*>> changes_;  // kernel and name -> who changes it
    std::map<std::string, const Cell*> tags_;
    std::uint64_t healed_ms_ = 0;
    bool finished_ = false;
    std::vector<BrokenRule> broken_;
};

void Checker::read(std::size_t at) {
    const auto& record = history_[at];
    if (record.kind == "asked") {
        const auto key = record.client + "/" + record.msg;
        auto [found, added] = cells_.try_emplace(key);
        found->second.asked_last_ms = record.at_ms;
        if (added) {
            found->second.key = key;
            found->second.asked = record;
            found->second.asked_at = at;
        }
    } else if (record.kind == "began" || record.kind == "heard") {
        if (record.kind == "heard" && !record.speaker.empty()) {
            speakers_[record.kernel].insert(record.speaker);
        }
        const auto found = cells_.find(record.asker + "/" + record.msg);
        if (found == cells_.end()) {
            return;
        }
        if (record.kind == "began") {
            ++found->second.began;
        } else {
            hear(found->second, record, at);
        }
    } else if (record.kind == "restarted") {
        ++restarts_[record.kernel];
    } else if (record.kind == "healed") {
        healed_ms_ = record.at_ms;
    } else if (record.kind == "finished") {
        finished_ = true;
    }
}

void Checker::hear(Cell& cell, const Record& record, std::size_t at) {
    const bool reply = record.type.ends_with("_reply") && record.client == record.asker;
    if (reply && cell.reply == nullptr) {
        cell.reply = &record;
        cell.answered_at = at;
    } else if (reply && cell.reply->state != record.state) {
        say("answers",
            cell.key + " was answered with " + cell.reply->state + ", and later with " +
                record.state,
            record.at_ms);
    }
    if (record.count > 0) {
        cell.counts.insert(record.count);
        cell.speaker = record.speaker;
    }
    if (record.type != "stream") {
        return;
    }
    std::istringstream words(record.text);
    for (std::string word; words >> word;) {
        const auto equals = word.find('=');
        if (word == "by" && words >> word) {
            cell.whos.insert(word);
        } else if (word == "holds-all") {
            cell.seen.whole = true;
        } else if (equals != std::string::npos) {
            cell.seen.values[word.substr(0, equals)] = word.substr(equals + 1);
        }
    }
}

void Checker::check_alone(const Cell& cell) {
    const auto at_ms = cell.asked.at_ms;
    if (cell.began > 1) {
        say("exactly once", fmt::format("user code of {} began {} times", cell.key, cell.began),
            at_ms);
    }
    if (!cell.is_cell()) {
        return;
    }
    if (cell.reply != nullptr && cell.reply->state == "aborted" && cell.began > 0) {
        say("no effect", cell.key + " was aborted, but its user code has begun", at_ms);
    }
    if (cell.whos.size() > 1) {
        say("one executor",
            fmt::format("outputs of {} come from {} and {}", cell.key, *cell.whos.begin(),
                        *cell.whos.rbegin()),
            at_ms);
    }
    if (cell.counts.size() > 1) {
        say("counts",
            fmt::format("{} has shown the execution counts {} and {}", cell.key,
                        *cell.counts.begin(), *cell.counts.rbegin()),
            at_ms);
    }
}

void Checker::check_counts() {
    std::map<std::string, const Cell*> shown;
    for (const auto& [key, cell] : cells_) {
        for (const auto count : cell.counts) {
            const auto name = fmt::format("{} {} {}", cell.asked.kernel, cell.speaker, count);
            const auto [found, added] = shown.emplace(name, &cell);
            if (!added) {
                say("counts",
                    fmt::format("{} and {} both show the execution count {}", found->second->key,
                                key, count),
                    cell.asked.at_ms);
            }
        }
    }
}

// Counts are given in the order of execution; so order is a matter of numbers.
void Checker::check_order() {
    for (const auto& [key, first] : cells_) {
        for (const auto& [other, second] : cells_) {
            const bool comparable = first.asked_at < second.asked_at && first.count() > 0 &&
                                    second.count() > 0 && first.speaker == second.speaker &&
                                    first.asked.kernel == second.asked.kernel;
            if (!comparable || first.count() < second.count()) {
                continue;
            }
            if (first.reply != nullptr && first.answered_at < second.asked_at) {
                say("order",
                    fmt::format(
                        "{} was answered as [{}] before {} was asked for, which ran as [{}]", key,
                        first.count(), other, second.count()),
                    second.asked.at_ms);
            } else if (first.asked.client == second.asked.client) {
                say("order",
                    fmt::format("{} [{}] was asked for before {} [{}] by one client", key,
                                first.count(), other, second.count()),
                    second.asked.at_ms);
            }
        }
    }
}

std::vector<const Cell*> Checker::changes_of(const std::string& kernel,
                                             const std::string& name) const {
    const auto found = changes_.find(kernel + " " + name);
    return found == changes_.end() ? std::vector<const Cell*>() : found->second;
}

void Checker::check_states() {
    for (const auto& [key, cell] : cells_) {
        if (cell.changes()) {
            changes_[cell.asked.kernel + " " + cell.asked.name].push_back(&cell);
            tags_[cell.asked.tag] = &cell;
        }
    }
    for (auto& [name, changes] : changes_) {
        std::sort(changes.begin(), changes.end(),
                  [](const Cell* a, const Cell* b) { return a->count() < b->count(); });
    }
    for (const auto& [key, cell] : cells_) {
        if (cell.counted()) {
            check_observation(cell);
        }
    }
}

void Checker::check_observation(const Cell& observer) {
    std::set<std::string> names;
    for (const auto& [name, value] : observer.seen.values) {
        names.insert(name);
    }
    if (observer.seen.whole) {
        for (const auto& [name, changes] : changes_) {
            if (name.starts_with(observer.asked.kernel + " ")) {
                names.insert(name.substr(observer.asked.kernel.size() + 1));
            }
        }
    }
    for (const auto& name : names) {
        const auto found = observer.seen.values.find(name);
        const auto value = found == observer.seen.values.end() ? "" : found->second;
        const auto changes = changes_of(observer.asked.kernel, name);
        const bool number = !changes.empty() && changes.front()->asked.op == "add";
        number ? check_number(observer, name, value) : check_list(observer, name, value);
    }
}

void Checker::check_list(const Cell& observer, const std::string& name, const std::string& value) {
    const auto at_ms = observer.asked.at_ms;
    const auto where = fmt::format("{} [{}] sees {}: ", observer.key, observer.count(), name);
    const auto tags = split(value, ',');
    std::uint64_t last = 0;
    std::set<std::string> there;
    for (const auto& tag : tags) {
        const auto found = tags_.find(tag);
        if (found == tags_.end()) {
            say("exactly once", where + tag + ", which nobody appended", at_ms);
            continue;
        }
        const auto& cell = *found->second;
        if (!there.insert(tag).second) {
            say("exactly once", where + tag + " of " + cell.key + " twice", at_ms);
        }
        if (cell.effect() == Effect::kNone) {
            say("no effect",
                where + tag + " of " + cell.key + ", which ended with " +
                    (cell.reply->ename.empty() ? cell.reply->state : cell.reply->ename),
                at_ms);
        } else if (cell.counted() && cell.speaker != observer.speaker) {
            say("one session", where + tag + " of " + cell.key + ", from before a restart", at_ms);
        } else if (cell.counted() && (cell.count() < last || cell.count() > observer.count())) {
            say("order",
                fmt::format("{}{} of {} [{}] out of its place", where, tag, cell.key, cell.count()),
                at_ms);
        }
        last = cell.counted() ? cell.count() : last;
    }
    for (const auto* cell : changes_of(observer.asked.kernel, name)) {
        const bool due = cell->counted() && cell->speaker == observer.speaker &&
                         cell->count() <= observer.count();
        if (due && !there.contains(cell->asked.tag)) {
            say("durability",
                fmt::format("{}not {} of {} [{}], which was answered", where, cell->asked.tag,
                            cell->key, cell->count()),
                at_ms);
        }
    }
}

void Checker::check_number(const Cell& observer, const std::string& name,
                           const std::string& value) {
    std::size_t sure = 0;
    std::size_t maybe = 0;
    for (const auto* cell : changes_of(observer.asked.kernel, name)) {
        if (!cell->counted()) {
            maybe += cell->effect() == Effect::kMaybe ? 1 : 0;
        } else if (cell->speaker == observer.speaker && cell->count() <= observer.count()) {
            ++sure;
        }
    }
    const auto shown = value.empty() ? 0 : std::stoull(value);
    const auto what = fmt::format("{} [{}] sees {} = {}, and {} to {} cells have counted",
                                  observer.key, observer.count(), name, shown, sure, sure + maybe);
    if (shown < sure) {
        say("durability", what, observer.asked.at_ms);
    } else if (shown > sure + maybe) {
        say("exactly once", what, observer.asked.at_ms);
    }
}

void Checker::check_sessions() {
    for (const auto& [kernel, speakers] : speakers_) {
        if (speakers.size() > 1 + restarts_[kernel]) {
            say("one session",
                fmt::format("kernel {} spoke with {} session ids after {} restarts", kernel,
                            speakers.size(), restarts_[kernel]),
                0);
        }
    }
}

void Checker::check_liveness() {
    for (const auto& [key, cell] : cells_) {
        if (cell.asked.op == "comm") {
            continue;  // its idle is a matter of `answers`
        }
        if (cell.reply == nullptr) {
            if (finished_) {
                say("liveness", key + " (" + cell.asked.op + ") was never answered",
                    cell.asked.at_ms);
            }
            continue;
        }
        const auto from = std::max(cell.asked_last_ms, healed_ms_);
        if (healed_ms_ > 0 && cell.reply->at_ms > from + options_.answer_ms_max) {
            say("liveness",
                fmt::format("{} was answered {} ms after it was asked for and all was well", key,
                            cell.reply->at_ms - from),
                cell.asked.at_ms);
        }
    }
}

}  // namespace

std::string BrokenRule::str() const { return fmt::format("{} ms: {}: {}", at_ms, rule, what); }

std::vector<BrokenRule> check_history(const History& history, CheckerOptions options) {
    return Checker(history, options).run();
}

HistoryFigures figures_of(const History& history) { return Checker(history, {}).figures(); }

}  // namespace nbos::testing
