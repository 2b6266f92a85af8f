// A Jupyter client with a WebSocket: it asks, listens, loses its connection and comes back with the
// same session id. What it did not get an answer for it asks again, with the same message ids.
#pragma once

#include <functional>
#include <list>
#include <string>

#include "jupyter/ws_frames.h"
#include "tests/cluster/history.h"
#include "tests/cluster/platform_gateway.h"

namespace nbos::testing {

struct ClientOptions {
    jupyter::WsProtocol protocol = jupyter::WsProtocol::kV1;
    std::size_t requests = 20;
    int think_ms_max = 800;
    std::size_t outstanding_max = 4;  // "run all"
    double fails = 0.05;
    double dies = 0.0;
    double asks = 0.05;
    double inputs = 0.0;  // a question that is lost with a connection is not put again
};

class PlatformClient {
public:
    struct Ports {
        VirtualTime& time;
        Rng& rng;
        Network& network;
        PlatformGateway& gateway;
        std::function<void(Record)> record;
    };
    PlatformClient(int number, std::string kernel, ClientOptions options, Ports ports);

    void start();
    void ask(const std::string& op);  // now, or when it is connected
    void drop(milliseconds away);     // its connection; it comes back after a while
    void hurry() { options_.think_ms_max = 50; }
    bool idle() const { return pending_.empty() && left_ == 0; }
    bool answered_all() const { return pending_.empty(); }
    bool connected() const { return stream_ != 0; }
    const std::string& session() const { return session_; }

private:
    struct Pending {
        jupyter::Message message;
        Record asked;
        bool sent = false;
    };
    void think();
    void connect();
    void opened(Network::StreamId stream);
    void closed();
    void regroup();  // asks again for what has no answer
    void hear(std::string_view payload);
    void send(Pending& pending);
    void write(const jupyter::Message& message);
    void answer_question(const jupyter::Message& question);
    std::string draw_op();

    Address address_;
    std::string session_;
    std::string kernel_;
    ClientOptions options_;
    Ports ports_;
    std::size_t left_;
    std::uint64_t last_msg_ = 0;
    Network::StreamId stream_ = 0;
    std::uint64_t connection_ = 0;
    bool connecting_ = false;
    bool ready_ = false;  // connected, and nothing is to be asked again
    std::list<Pending> pending_;
};

}  // namespace nbos::testing
