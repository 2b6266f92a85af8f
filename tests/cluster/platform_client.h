// A Jupyter client with a WebSocket: it asks, listens, loses its connection and comes back with the
// same session id, through whichever gateway. What it did not get an answer for it asks again, with
// the same message ids; a comm message, which has no answer, it does not.
#pragma once

#include <functional>
#include <list>
#include <string>
#include <vector>

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
    double inputs = 0.0;
    double comms = 0.0;
    bool names_session = true;  // when it connects; else its first message does
};

class PlatformClient {
public:
    struct Ports {
        VirtualTime& time;
        Rng& rng;
        Network& network;
        std::vector<PlatformGateway*> gateways;
        std::function<void(Record)> record;
    };
    PlatformClient(int number, std::string kernel, ClientOptions options, Ports ports);

    void start();
    void ask(const std::string& op);  // now, or when it is connected
    void drop(milliseconds away);     // its connection; it comes back after a while
    // It comes back at once, through another gateway where there is one. The connection before is
    // open for a while longer: whoever holds it takes it for a client that listens.
    void move(milliseconds half_open);
    void hurry() { options_.think_ms_max = 50; }
    bool idle() const { return pending_.empty() && left_ == 0; }
    bool answered_all() const { return pending_.empty(); }
    bool connected() const { return stream_ != 0; }
    const std::string& session() const { return session_; }
    const Address& address() const { return address_; }
    const Address& gateway() const { return gateway_->address(); }

private:
    struct Pending {
        jupyter::Message message;
        Record asked;
        bool sent = false;
    };
    void think();
    void connect();
    void connect(PlatformGateway& through);
    PlatformGateway& some_gateway();
    PlatformGateway& another_gateway();
    jupyter::HttpRequest channels_request() const;
    void opened(Network::StreamId stream);
    void leave();
    void forget_what_is_not_repeated();
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
    PlatformGateway* gateway_ = nullptr;  // of this connection, or the last one
    std::uint64_t connection_ = 0;
    bool connecting_ = false;
    bool ready_ = false;  // connected, and nothing is to be asked again
    std::list<Pending> pending_;
};

}  // namespace nbos::testing
