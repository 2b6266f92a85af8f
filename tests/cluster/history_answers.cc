#include "tests/cluster/history_answers.h"

#include <fmt/core.h>

namespace nbos::testing {
namespace {

constexpr std::string_view kWaits = "[NotebookOS] This cell waits: ";
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
            request.connection = connections_[record.client];
        }
    } else if (record.kind == "connected") {
        for (auto& [key, track] : tracks_) {
            if (key.first == record.client) {
                track.anew = true;
            }
        }
        ++connections_[record.client];
        lives_[record.client] = gateways_;
    } else if (record.kind == "gateway_gone") {
        ++gateways_;
    } else if (record.kind == "finished") {
        finished_ = true;
    } else if (record.kind == "heard") {
        const auto key = record.asker + "/" + record.msg;
        const auto found = requests_.find(key);
        if (found == requests_.end()) {
            return;
        }
        if (found->second.op == "ask") {
            hear_question(record, key, found->second);
        } else {
            hear_cell(record, key, found->second);
        }
    }
}

void AnswerChecker::hear_cell(const Record& record, const std::string& key, Request& request) {
    const auto place = place_of(record);
    if (place == kNothing) {
        return;
    }
    auto& track = tracks_[{record.client, key}];
    const auto since = record.client == record.asker ? request.connection : 1;
    const bool first = track.place == kNothing && connections_[record.client] <= since;
    const bool settled = track.place == kIdle && !track.gap;
    const bool again = request.asked > track.rounds || track.life != lives_[record.client];
    if (track.anew && !first) {
        if (settled && !again) {
            say(fmt::format("{} heard {} of {} again, which had ended", record.client,
                            kNames[place], key),
                record);
        }
        track.rounds += track.place == kNothing || track.place == kIdle ? 1 : 0;
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
    track.anew = false;
    track.place = place;
    track.life = lives_[record.client];
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
    const auto most = request.asked + gateways_;
    if (place != kNothing && place != kOutput && ++number > most) {
        say(fmt::format("{} was asked {} times and has {} times its {}", key, request.asked, number,
                        kNames[place]),
            record);
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
    return std::move(broken_);
}

}  // namespace nbos::testing
