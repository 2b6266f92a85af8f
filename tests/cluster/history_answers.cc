#include "tests/cluster/history_answers.h"

#include <fmt/core.h>

#include <algorithm>

namespace nbos::testing {
namespace {

constexpr std::string_view kWaits = "[NotebookOS] This cell waits: ";
constexpr std::uint64_t kOnItsWayMs = 1000;  // a gateway's word to the hosts
const char* const kNames[] = {"nothing", "busy", "outputs", "reply", "idle"};

}  // namespace

AnswerChecker::Place AnswerChecker::place_of(const Record& record) {
    if (record.type == "status") {
        return record.state == "busy" ? kBusy : record.state == "idle" ? kIdle : kNothing;
    }
    if (record.type == "stream" && record.text.starts_with(kWaits)) {
        return kNothing;  // the gateway's word on a cell that has not begun
    }
    return record.type.ends_with("_reply") ? kReply : kOutput;
}

void AnswerChecker::say(const std::string& what, const Record& record) {
    broken_.push_back({"answers", what, record.at_ms});
}

void AnswerChecker::read(const Record& record) {
    if (record.kind == "asked") {
        auto& request = requests_[record.client + "/" + record.msg];
        request.op = record.op;
        if (++request.asked == 1) {
            const auto& connection = connections_[record.client];
            request.connection = connection.number;
            request.moves = connection.moves;
        }
    } else if (record.kind == "connected") {
        connect(record);
    } else if (record.kind == "gateway_gone") {
        ++gateways_gone_;
        gone_ms_[record.who].push_back(record.at_ms);
    } else if (record.kind == "broke") {
        ++broken_now_;
    } else if (record.kind == "mended" || record.kind == "healed") {
        broken_now_ -=
            record.kind == "healed" ? broken_now_ : std::min<std::size_t>(1, broken_now_);
        broken_until_ms_ = record.at_ms;
    } else if (record.kind == "finished") {
        finished_ = true;
    } else if (record.kind == "heard") {
        const auto key = record.asker + "/" + record.msg;
        const auto found = requests_.find(key);
        if (found == requests_.end()) {
            return;
        }
        if (found->second.op == "ask" || found->second.op == "comm") {
            hear_question(record, key, found->second);
        } else {
            hear_cell(record, key, found->second);
        }
    }
}

void AnswerChecker::connect(const Record& record) {
    for (auto& [key, track] : tracks_) {
        if (key.first == record.client) {
            track.anew = true;
        }
    }
    auto& connection = connections_[record.client];
    connection.moves += ++connection.number > 1 && connection.life.gateway != record.who ? 1 : 0;
    connection.life = {.gateway = record.who, .number = gone_ms_[record.who].size()};
    connection.unnamed = record.state == "unnamed";
}

// By the same gateway when it has lost its memory; by another one when the hosts may not know how
// far the client has heard.
bool AnswerChecker::may_be_told_again(const Track& track, const Record& now) const {
    const auto& life = connections_.at(now.client).life;
    if (track.life.gateway == life.gateway) {
        return track.life != life;
    }
    const auto arrives_ms = track.at_ms + kOnItsWayMs;
    const auto gone = gone_ms_.find(track.life.gateway);
    const bool unsaid =
        now.at_ms < arrives_ms ||
        (gone != gone_ms_.end() &&
         std::any_of(
             gone->second.begin(), gone->second.end(),
             [&](auto at_ms) { return at_ms >= track.at_ms && at_ms < arrives_ms; }));
    const bool broke = broken_now_ > 0 || (broken_until_ms_ > 0 &&
                                           broken_until_ms_ + options_.word_ms_max >= track.at_ms);
    return unsaid || broke;
}

void AnswerChecker::hear_input(const Record& record, const std::string& key, Track& track) {
    if (record.type == "execute_input" && std::exchange(track.shows_input, true)) {
        say(fmt::format("{} heard the execute_input of {} twice", record.client, key), record);
    }
}

void AnswerChecker::hear_cell(const Record& record, const std::string& key, Request& request) {
    const auto place = place_of(record);
    const auto& connection = connections_[record.client];
    const auto since = record.client == record.asker ? request.connection : 1;
    if (place == kNothing || (connection.unnamed && connection.number > since)) {
        return;
    }
    auto& track = tracks_[{record.client, key}];
    const bool first = track.place == kNothing && connection.number <= since;
    const bool settled = track.place == kIdle && !track.gap;
    const bool told_again = track.anew && may_be_told_again(track, record);
    const bool again = request.asked > track.rounds || told_again;
    if (place == kBusy || track.place == kIdle || told_again) {
        track.shows_input = false;
    }
    if (track.anew && !first) {
        if (settled && !again) {
            say(fmt::format("{} heard {} of {} again, which had ended", record.client,
                            kNames[place], key),
                record);
        }
        const bool begins = track.place == kNothing || track.place == kIdle;
        track.rounds += begins && !told_again ? 1 : 0;  // what was asked again is still due
        track.gap = true;
    } else if (place == kBusy) {
        const bool fresh = track.place == kNothing || (track.place == kIdle && again);
        if (!fresh) {
            say(fmt::format("{} heard busy of {} after its {}", record.client, key,
                            kNames[track.place]),
                record);
        }
        ++track.rounds;
        track.gap = false;
    } else {
        const bool mine = record.client == record.asker;
        const bool jumps = place == kIdle && mine && track.place != kReply && !track.gap;
        const bool backwards = place == kOutput ? track.place > kOutput : place <= track.place;
        if (track.place == kNothing || backwards || jumps) {
            say(fmt::format("{} heard {} of {} after its {}", record.client, kNames[place], key,
                            kNames[track.place]),
                record);
        }
    }
    hear_input(record, key, track);
    track.anew = false;
    track.place = place;
    track.life = connection.life;
    track.at_ms = record.at_ms;
}

// Its reply and its status come over two sockets: only their numbers are promised.
void AnswerChecker::hear_question(const Record& record, const std::string& key, Request& request) {
    if (record.client != record.asker) {
        return;
    }
    const auto place = place_of(record);
    auto& number = place == kReply  ? request.replies
                   : place == kBusy ? request.busies
                                    : request.idles;
    const auto& connection = connections_[record.client];
    // What it heard before it said who it is, is kept for it, too.
    const bool twice = connection.unnamed && connection.number > 1;
    // How often its gateway has asked replicas for it, another one does not know.
    const bool moved = connection.moves > request.moves;
    const auto most = request.asked + gateways_gone_;
    if (place != kNothing && place != kOutput && ++number > most && !moved && !twice) {
        say(fmt::format("{} was asked {} times and has {} times its {}", key, request.asked, number,
                        kNames[place]),
            record);
    }
}

// Nobody asks for them again: they end as long as their connection lasts.
void AnswerChecker::finish_comms() {
    for (const auto& [key, request] : requests_) {
        const auto client = key.substr(0, key.find('/'));
        if (request.op == "comm" && request.idles == 0 &&
            request.connection == connections_[client].number) {
            broken_.push_back({"answers", key + " (comm) never was idle", 0});
        }
    }
}

std::vector<BrokenRule> AnswerChecker::finish() {
    if (!finished_) {
        return std::move(broken_);
    }
    for (const auto& [key, track] : tracks_) {
        const auto& [listener, request] = key;
        const bool own = request.starts_with(listener + "/");
        if (own && track.place != kIdle && track.place != kNothing && !track.anew) {
            broken_.push_back({"answers",
                               fmt::format("{} heard {} of {} last, and never its idle", listener,
                                           kNames[track.place], request),
                               0});
        }
    }
    finish_comms();
    return std::move(broken_);
}

}  // namespace nbos::testing
