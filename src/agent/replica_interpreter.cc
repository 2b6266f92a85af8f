#include "agent/replica_interpreter.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"

namespace nbos::agent {
namespace {

// Nothing at first (a crash is usually a single event), then doubling up to ten seconds.
Instant pause_after(int failures) {
    if (failures <= 1) {
        return Instant{0};
    }
    const auto ms = std::min(10'000, 200 << std::min(failures, 10));
    return std::chrono::milliseconds(ms);
}

}  // namespace

ReplicaInterpreter::ReplicaInterpreter(Interpreters& port, Source source)
    : port_(port), source_(std::move(source)) {}

ReplicaInterpreter::~ReplicaInterpreter() { stop(); }

void ReplicaInterpreter::start() {
    if (id_) {
        port_.discard(*id_);
    }
    stopped_ = false;
    retry_at_.reset();
    ready_ = false;
    applied_ = sent_ = Sequence{0};
    survivor_.reset();
    expected_.reset();
    id_ = port_.start(source_.adoption());
    survives_ = port_.survives(*id_);
}

void ReplicaInterpreter::start_or_keep_survivor() {
    if (!survives_) {
        start();
    }
}

void ReplicaInterpreter::resume(Sequence sequence) {
    survives_ = false;
    expected_ = survivor_->expects;
    survivor_.reset();
    ready_ = true;
    applied_ = sent_ = sequence;
    failures_ = 0;
    port_.resume(*id_);
}

void ReplicaInterpreter::stop() {
    stopped_ = true;
    retry_at_.reset();
    ready_ = survives_ = false;
    survivor_.reset();
    expected_.reset();
    if (id_) {
        port_.discard(*id_);
        id_.reset();
    }
}

std::string ReplicaInterpreter::describe(Sequence sequence) const {
    if (failed()) {
        return "failed: " + last_error_;
    }
    if (!ready_) {
        return "starting";
    }
    return current(sequence) ? "ready" : "behind";
}

void ReplicaInterpreter::apply(Sequence base, Sequence sequence, Bytes delta) {
    if (id_ && ready_ && sequence > sent_) {  // one that is not ready is loaded when it is
        sent_ = sequence;
        port_.apply(*id_, base, sequence, std::move(delta));
    }
}

void ReplicaInterpreter::executed(CellNumber cell, Sequence sequence) {
    applied_ = sent_ = sequence;
    if (id_) {
        port_.settled(*id_, cell);
    }
}

void ReplicaInterpreter::on_ready() {
    ready_ = true;
    auto state = source_.state();
    if (state.sequence.value == 0) {
        failures_ = 0;
        return;
    }
    sent_ = state.sequence;
    port_.load(*id_, state.sequence, std::move(state.table));
}

bool ReplicaInterpreter::on_applied(Sequence sequence, bool ok, const std::string& error) {
    if (!ok) {
        if (id_) {
            port_.discard(*id_);
            id_.reset();
        }
        fail("it could not take the state of cell sequence " + std::to_string(sequence.value) +
             ": " + error);
        return false;
    }
    applied_ = std::max(applied_, sequence);
    failures_ = 0;
    return true;
}

void ReplicaInterpreter::on_ended(const std::string& why) {
    id_.reset();
    survives_ = false;
    survivor_.reset();  // it may have said what it has while the log was still being read
    expected_.reset();
    fail(why);
}

void ReplicaInterpreter::fail(const std::string& why) {
    ready_ = false;
    last_error_ = why;
    ++failures_;
    if (!stopped_) {
        retry_at_ = now_ + pause_after(failures_);
    }
    log_warning("interpreter", "ended ({} in a row): {}", failures_, why);
}

void ReplicaInterpreter::tick(Instant now) {
    now_ = now;
    if (retry_at_ && now >= *retry_at_) {
        start();
    }
}

}  // namespace nbos::agent
