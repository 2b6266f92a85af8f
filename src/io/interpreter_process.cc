#include "io/interpreter_process.h"

#include <fmt/core.h>
#include <signal.h>

#include <filesystem>
#include <utility>

#include "base/wire.h"
#include "io/interpreter_owner.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"
#include "jupyter/zmq_frames.h"

namespace nbos::io {
namespace {

using jupyter::Channel;
using jupyter::json_quoted;

constexpr std::string_view kProbe = "nbos-probe-";

bool starts_with(const std::string& text, std::string_view head) {
    return text.rfind(head, 0) == 0;
}

agent::Survivor survivor_of(std::string_view resume) {
    agent::Survivor out;
    out.session = jupyter::string_field(resume, "session");
    if (jupyter::bool_field(resume, "known", false)) {
        out.sequence = Sequence{jupyter::uint_field(resume, "sequence")};
    }
    const auto run = jupyter::object_field_text(resume, "run");
    if (const auto cell = run ? jupyter::uint_field(*run, "cell") : 0; cell > 0) {
        out.run = {.cell = CellNumber{cell},
                   .epoch = Epoch{jupyter::uint_field(*run, "epoch")},
                   .base = Sequence{jupyter::uint_field(*run, "base")}};
    }
    const auto claim = jupyter::object_field_text(resume, "expects");
    if (const auto cell = claim ? jupyter::uint_field(*claim, "cell") : 0; cell > 0) {
        out.expects = {.cell = CellNumber{cell},
                       .epoch = Epoch{jupyter::uint_field(*claim, "epoch")}};
    }
    return out;
}

std::string env_json(const std::map<std::string, std::string>& env) {
    std::string out = "{";
    for (const auto& [name, value] : env) {
        out += (out.size() > 1 ? ", " : "") + json_quoted(name) + ": " + json_quoted(value);
    }
    return out + "}";
}

}  // namespace

InterpreterProcess::InterpreterProcess(EventLoop& loop, ZmqContext& zmq, std::string token,
                                       std::string directory, ZmqPort::MayReceive takes_outputs,
                                       Callbacks callbacks, pid_t survivor)
    : loop_(loop),
      zmq_(zmq),
      token_(std::move(token)),
      directory_(std::move(directory)),
      takes_outputs_(std::move(takes_outputs)),
      callbacks_(std::move(callbacks)),
      phase_(survivor > 0 ? Phase::kAway : Phase::kForked),
      pid_(survivor) {
    std::filesystem::create_directories(directory_);
}

InterpreterProcess::~InterpreterProcess() {
    callbacks_ = {};
    signal(SIGKILL);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

bool InterpreterProcess::hello(std::unique_ptr<StateSocket> socket, const std::string& header) {
    const auto resume = jupyter::object_field_text(header, "resume");
    const bool comes_back = phase_ == Phase::kAway;
    if (comes_back != resume.has_value() || (comes_back && socket->peer() != pid_)) {
        return false;
    }
    if (comes_back) {
        survivor_ = survivor_of(*resume);
    }
    state_ = std::move(socket);
    pid_ = state_->peer();
    state_->start({.frame = [this](StateFrame type, const std::string& head,
                                   Bytes body) { take(type, head, std::move(body)); },
                   .closed =
                       [this] {
                           if (callbacks_.closed) {
                               callbacks_.closed();
                           }
                       }});
    connect();
    return true;
}

void InterpreterProcess::connect() {
    phase_ = Phase::kConnecting;
    const auto open = [this](ZmqKind kind, Channel channel, const std::string& identity) {
        const auto endpoint = fmt::format("ipc://{}/{}", directory_, jupyter::name(channel));
        return std::make_unique<ZmqPort>(
            loop_, zmq_, kind, endpoint, identity,
            [this, channel](Frames frames) { take(channel, frames); },
            channel == Channel::kIopub ? ZmqPort::MayReceive([this] { return takes_outputs(); })
                                       : ZmqPort::MayReceive{});
    };
    // stdin has the identity of shell: a kernel asks for input at the address of the request.
    iopub_ = open(ZmqKind::kSubscribe, Channel::kIopub, "");
    shell_ = open(ZmqKind::kDealer, Channel::kShell, "agent-" + token_);
    stdin_ = open(ZmqKind::kDealer, Channel::kStdin, "agent-" + token_);
    control_ = open(ZmqKind::kDealer, Channel::kControl, "control-" + token_);
    probe();
}

bool InterpreterProcess::takes_outputs() const {
    return !repeats_ && (!takes_outputs_ || takes_outputs_());
}

// A subscription takes a moment to arrive, and what is published before is lost: only an answer
// seen on iopub proves that nothing will be. A survivor may be in the middle of a cell: its shell
// does not answer then, its control channel does.
void InterpreterProcess::probe() {
    jupyter::Message message;
    message.header = fmt::format(
        R"({{"msg_id": "{}{}", "msg_type": "kernel_info_request", "session": "{}", )"
        R"("username": "nbos", "date": "2026-01-01T00:00:00.000000Z", "version": "5.3"}})",
        kProbe, token_, token_);
    message.parent_header = message.metadata = message.content = "{}";
    (survivor_ ? control_ : shell_)->send(jupyter::to_frames(message));
}

void InterpreterProcess::adopt(const agent::Adoption& adoption, const std::string& workspace) {
    phase_ = Phase::kAdopting;
    const auto& cwd = adoption.cwd.empty() ? workspace : adoption.cwd;
    write_owner(directory_, {.kernel = adoption.kernel,
                             .replica = adoption.replica,
                             .session = adoption.session,
                             .spec = adoption.spec,
                             .pid = pid_});
    state_->send(
        StateFrame::kAdopt,
        fmt::format(R"({{"kernel": {}, "session": {}, "cwd": {}, "env": {}, )"
                    R"("username": {}, "replica": {}, "outlives_agent_s": {}}})",
                    json_quoted(adoption.kernel.value.str()), json_quoted(adoption.session),
                    json_quoted(cwd), env_json(adoption.env), json_quoted(adoption.username),
                    adoption.replica.value,
                    std::chrono::duration<double>(adoption.outlives_agent).count()));
}

void InterpreterProcess::resume() {
    phase_ = Phase::kAdopted;
    repeats_ = true;
    state_->send(StateFrame::kResume, "{}");
    flush_waiting();
}

void InterpreterProcess::settled(CellNumber cell) {
    if (state_) {
        state_->send(StateFrame::kSettled, fmt::format(R"({{"cell": {}}})", cell.value));
    }
}

void InterpreterProcess::expect(const agent::Survivor::Claim& claim) {
    if (state_) {
        state_->send(StateFrame::kExpect, fmt::format(R"({{"cell": {}, "epoch": {}}})",
                                                      claim.cell.value, claim.epoch.value));
    }
}

void InterpreterProcess::send_frame(StateFrame type, std::string header, Bytes body) {
    if (phase_ == Phase::kAdopted) {
        state_->send(type, header, std::move(body));
        return;
    }
    waiting_.emplace_back([this, type, header = std::move(header), body = std::move(body)] {
        state_->send(type, header, body);
    });
}

void InterpreterProcess::send_message(const jupyter::Message& message) {
    if (phase_ != Phase::kAdopted) {
        waiting_.emplace_back([this, message] { send_message(message); });
        return;
    }
    auto& port = message.channel == Channel::kShell     ? shell_
                 : message.channel == Channel::kControl ? control_
                                                        : stdin_;
    port->send(jupyter::to_frames(message));
}

void InterpreterProcess::take(Channel channel, const Frames& frames) {
    auto message = jupyter::from_frames(channel, frames);
    if (!message) {
        return;
    }
    const auto parent = jupyter::parse_header(message->parent_header);
    if (parent && starts_with(parent->msg_id, kProbe)) {
        if (channel == Channel::kIopub && phase_ == Phase::kConnecting) {
            phase_ = survivor_ ? Phase::kBack : Phase::kWarm;
            const auto callbacks = callbacks_;
            survivor_ ? callbacks.back(*survivor_) : callbacks.warm();
        }
        return;
    }
    if (phase_ == Phase::kAdopted && callbacks_.message) {
        const auto deliver = callbacks_.message;
        deliver(std::move(*message));
    }
}

void InterpreterProcess::take(StateFrame type, const std::string& header, Bytes body) {
    if (type == StateFrame::kAdopted) {
        const bool ok = jupyter::bool_field(header, "ok", false);
        if (ok) {
            phase_ = Phase::kAdopted;
            flush_waiting();
        }
        const auto adopted = callbacks_.adopted;
        adopted(ok, jupyter::string_field(header, "error"));
    } else if (type == StateFrame::kMessage) {
        take_repeated(header, body);
    } else if (type == StateFrame::kRepeated) {
        repeats_ = false;
    } else if (callbacks_.frame) {
        const auto frame = callbacks_.frame;
        frame(type, header, std::move(body));
    }
}

void InterpreterProcess::take_repeated(const std::string& header, const Bytes& body) {
    const auto channel = jupyter::channel_named(jupyter::string_field(header, "channel"));
    Reader in(body.view());
    Frames frames;
    while (in.ok() && in.left() > 0) {
        frames.push_back(Bytes::copy(in.text()));
    }
    if (channel && in.ok()) {
        take(*channel, frames);
    }
}

void InterpreterProcess::flush_waiting() {
    while (!waiting_.empty()) {
        const auto work = std::move(waiting_.front());
        waiting_.pop_front();
        work();
    }
}

void InterpreterProcess::signal(int number) {
    if (pid_ > 0) {
        // It leads a session and a process group of its own, so that shell escapes hear it too.
        kill(-pid_, number);
        kill(pid_, number == SIGKILL ? number : 0);
    }
}

}  // namespace nbos::io
