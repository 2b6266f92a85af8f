// One interpreter process as the agent sees it: its private socket and its four ZeroMQ sockets.
//
// Phases   forked -> (hello) connecting -> (a probe was answered on shell and seen on iopub) warm
//          -> adopting -> adopted. What is sent before "adopted" waits, in order.
//          One that outlived an earlier agent: away -> (hello) connecting -> (a probe on control)
//          back -> resume() -> adopted. Its owner is in its directory, in owner.json.
// Threads  Loop thread only.
#pragma once

#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/ports.h"
#include "io/state_socket.h"
#include "io/zmq_port.h"

namespace nbos::io {

class InterpreterProcess {
public:
    struct Callbacks {
        std::function<void()> warm;
        std::function<void(const agent::Survivor&)> back;
        std::function<void(bool ok, const std::string& error)> adopted;
        std::function<void(StateFrame type, const std::string& header, Bytes body)> frame;
        std::function<void(jupyter::Message)> message;
        std::function<void()> closed;  // its private socket: the process is ending
    };

    InterpreterProcess(EventLoop& loop, ZmqContext& zmq, std::string token, std::string directory,
                       ZmqPort::MayReceive takes_outputs, Callbacks callbacks, pid_t survivor = -1);
    ~InterpreterProcess();  // kills it
    InterpreterProcess(const InterpreterProcess&) = delete;
    InterpreterProcess& operator=(const InterpreterProcess&) = delete;

    const std::string& token() const { return token_; }
    const std::string& directory() const { return directory_; }
    bool warm() const { return phase_ == Phase::kWarm; }
    bool adopted() const { return phase_ == Phase::kAdopted; }
    bool away() const { return phase_ == Phase::kAway; }
    void resume();                  // when it is back
    void settled(CellNumber cell);  // also before that
    void expect(const agent::Survivor::Claim& claim);

    // The process has connected. False: it is not the one that is expected.
    bool hello(std::unique_ptr<StateSocket> socket, const std::string& header);
    void adopt(const agent::Adoption& adoption, const std::string& workspace);
    void send_frame(StateFrame type, std::string header, Bytes body = {});
    void send_message(const jupyter::Message& message);
    void probe();  // again, as long as it is connecting
    bool connecting() const { return phase_ == Phase::kConnecting; }
    void signal(int number);  // to the whole process group

private:
    enum class Phase : std::uint8_t {
        kForked,
        kAway,
        kConnecting,
        kWarm,
        kAdopting,
        kBack,
        kAdopted
    };

    void connect();
    bool takes_outputs() const;
    void take(jupyter::Channel channel, const Frames& frames);
    void take(StateFrame type, const std::string& header, Bytes body);
    void take_repeated(const std::string& header, const Bytes& body);
    void flush_waiting();

    EventLoop& loop_;
    ZmqContext& zmq_;
    std::string token_;
    std::string directory_;
    ZmqPort::MayReceive takes_outputs_;
    Callbacks callbacks_;
    Phase phase_ = Phase::kForked;
    pid_t pid_ = -1;
    std::optional<agent::Survivor> survivor_;
    bool repeats_ = false;  // what it said before: outputs that came since wait behind that
    std::unique_ptr<StateSocket> state_;
    std::unique_ptr<ZmqPort> shell_;
    std::unique_ptr<ZmqPort> control_;
    std::unique_ptr<ZmqPort> stdin_;
    std::unique_ptr<ZmqPort> iopub_;
    std::deque<std::function<void()>> waiting_;
};

}  // namespace nbos::io
