// The order of answers, per listening client and request: a part of the history checker.
//
// A client hears of a request, its own or another client's, in rounds: busy, outputs, the reply
// (only who asked), idle. A second round is due only to a request that was asked again. What came
// before a connection opened may be missing, so the first message after that sets the place.
//
// Between gateways it is a matter of how far hosts have been told what each client has heard: see
// may_be_told_again().
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/cluster/history.h"
#include "tests/cluster/history_checker.h"

namespace nbos::testing {

class AnswerChecker {
public:
    explicit AnswerChecker(CheckerOptions options) : options_(options) {}
    void read(const Record& record);
    std::vector<BrokenRule> finish();

private:
    enum Place : std::uint8_t { kNothing, kBusy, kOutput, kReply, kIdle };
    struct Life {  // of a gateway: what it knows
        std::string gateway;
        std::size_t number = 0;
        bool operator==(const Life&) const = default;
    };
    struct Track {
        Place place = kNothing;
        bool anew = true;  // nothing of it was heard since the connection opened
        std::size_t rounds = 0;
        Life life;  // that it was last heard from
        std::uint64_t at_ms = 0;
        bool gap = false;          // of this round something may be missing
        bool shows_input = false;  // its execute_input was heard in this round
    };
    struct Connection {
        std::size_t number = 0;
        std::size_t moves = 0;  // from one gateway to another, so far
        Life life;
        bool unnamed = false;
    };
    struct Request {
        std::string op;
        std::size_t asked = 0;
        std::size_t connection = 0;  // of its client, when it was first asked
        std::size_t replies = 0;
        std::size_t idles = 0;
        std::size_t busies = 0;
        std::size_t moves = 0;  // of its client, before it was first asked
    };

    static Place place_of(const Record& record);
    void connect(const Record& record);
    bool may_be_told_again(const Track& track, const Record& now) const;
    void hear_input(const Record& record, const std::string& key, Track& track);
    void hear_cell(const Record& record, const std::string& key, Request& request);
    void finish_comms();
    void hear_question(const Record& record, const std::string& key, Request& request);
    void say(const std::string& what, const Record& record);

    std::map<std::string, Request> requests_;
    std::map<std::pair<std::string, std::string>, Track> tracks_;  // listener, request
    std::map<std::string, Connection> connections_;                // by client
    std::map<std::string, std::vector<std::uint64_t>> gone_ms_;    // by gateway
    std::size_t gateways_gone_ = 0;
    std::size_t broken_now_ = 0;
    std::uint64_t broken_until_ms_ = 0;  // as far as is known
    const CheckerOptions options_;
    bool finished_ = false;
    std::vector<BrokenRule> broken_;
};

}  // namespace nbos::testing
