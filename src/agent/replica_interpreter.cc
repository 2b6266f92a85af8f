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

ReplicaInterpreter::ReplicaInterpreter(Interpreters& port, MakeImage image)
    : port_(port), image_(std::move(image)) {}

ReplicaInterpreter::~ReplicaInterpreter() { stop(); }

void ReplicaInterpreter::start() {
    if (id_) {
        port_.discard(*id_);
    }
    stopped_ = false;
    retry_at_.reset();
    ready_ = false;
    auto image = image_();
    id_ = port_.start(image.adoption);
    applied_ = Sequence{0};
    loaded_from_ = image.sequence;
    if (image.sequence.value > 0) {
        port_.load(*id_, image.sequence, std::move(image.table));
    }
}

void ReplicaInterpreter::stop() {
    stopped_ = true;
    retry_at_.reset();
    ready_ = false;
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
    if (id_) {
        port_.apply(*id_, base, sequence, std::move(delta));
    }
}

void ReplicaInterpreter::executed(Sequence sequence) { applied_ = sequence; }

void ReplicaInterpreter::on_ready() {
    ready_ = true;
    if (loaded_from_.value == 0) {
        failures_ = 0;
    }
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
