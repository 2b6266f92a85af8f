// A kernel at the gateway as a local kernel: what local clients ask, and what they are told.
//
// Messages pass through as they are. The relay itself answers only what concerns its process:
// shutdown, subscriptions, and what it must refuse. While the gateway is away requests are kept,
// and nothing that it says twice afterwards reaches a client twice.
//
// Limits   RequestLimits; held_* of output before the first subscriber, then the oldest goes.
// Threads  The loop thread. Everything outside is a port.
// Source   jupyter_client documentation, "Messaging in Jupyter"; jupyter_client's KernelManager.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jupyter/message_factory.h"
#include "jupyter/signed_frames.h"
#include "relay/request_table.h"

namespace nbos::relay {

// Which kernel it is, once the gateway has one.
struct Kernel {
    std::string id;
    bool ends_with_relay = true;  // false: it was there before, under an id that the user named
    // The next relay of the same connection file starts it afresh; else this one does so before
    // it ends.
    bool restarted_by_successor = true;
};

// The five sockets. The message's channel says which one; on iopub the identity is the topic.
class LocalClients {
public:
    virtual ~LocalClients() = default;
    virtual void send(const jupyter::Addressed& message) = 0;
};

class KernelAtGateway {
public:
    using Done = std::function<void(Status)>;
    virtual ~KernelAtGateway() = default;
    virtual void send(const jupyter::Message& message) = 0;
    virtual void restart(Done done) = 0;
    virtual void remove(Done done) = 0;
};

struct RelayOptions {
    Kernel kernel;
    std::string session;  // of messages that the relay itself says before the kernel has spoken
    std::size_t request_bytes_max = 120U << 20U;  // the gateway closes sockets above 128 MiB
    std::size_t held_messages_max = 1'000;
    std::size_t shown_max = 10'000;  // outputs remembered, to show none twice
    RequestLimits requests = {};
};

class Relay {
public:
    struct Ports {
        const jupyter::MessageFactory& factory;
        LocalClients& clients;
        KernelAtGateway& kernel;
        std::function<void(int exit_code)> end;  // called once
    };

    Relay(RelayOptions options, Ports ports);

    // ---- local clients ----
    void receive(jupyter::Addressed request);
    void subscribed(std::string_view topic);

    // ---- the gateway ----
    void found(Kernel kernel) { options_.kernel = std::move(kernel); }
    void opened();  // everything that was kept for us has arrived
    void lost();
    void from_gateway(const jupyter::Message& message);
    void gone(const std::string& why);  // the kernel, for good

    // ---- the process ----
    void interrupt();
    void terminate();

    // Of local clients that wait for something: what the gateway kept for them is ours to hear.
    std::set<std::string> waiting_sessions() const { return requests_.sessions(); }

private:
    void take_shutdown(const jupyter::Addressed& request, const jupyter::Header& header);
    void shut_down(bool restart, const std::function<void()>& answer);
    void refuse(const Request& request, std::string_view ename, std::string_view why);
    void send_unsent();
    void ask(const jupyter::Message& message, const jupyter::Header& parent);
    void show(const jupyter::Message& message, const jupyter::Header& parent);
    void publish(const jupyter::Message& message, std::string topic);
    void publish(const jupyter::Message& message);
    bool first_time(const std::string& output);
    void end(int exit_code);

    RelayOptions options_;
    Ports ports_;
    RequestTable requests_;
    // For input, the last one that a local client was asked. The gateway asks it again over a new
    // connection as long as it has no answer.
    struct Question {
        std::string id;
        std::optional<jupyter::Message> answer;
        bool answered_here = false;  // over the present connection
    };
    std::optional<Question> question_;
    std::string session_;  // the kernel's
    std::deque<jupyter::Addressed> held_;
    std::set<std::string> shown_;
    std::deque<std::string> shown_order_;
    bool open_ = false;
    bool was_lost_ = false;
    bool has_subscriber_ = false;
    bool ending_ = false;
    bool ended_ = false;
};

}  // namespace nbos::relay
