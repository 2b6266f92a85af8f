#include "cli/run_kernel_relay.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "cli/complaint.h"
#include "cli/relay_guardian.h"
#include "io/event_loop.h"
#include "io/http_client.h"
#include "io/websocket_client.h"
#include "io/zmq_port.h"
#include "jupyter/ws_frames.h"
#include "relay/gateway_link.h"

namespace nbos::cli {
namespace {

using jupyter::Channel;

constexpr std::chrono::seconds kParentPoll{1};
constexpr std::size_t kSessionNameMax = 100;
constexpr std::size_t kSessionsBytesMax = 2'000;
constexpr std::size_t kLoggedRefusals = 20;  // of messages that are not signed, and the like

// A client's message names its session by itself; only a plain name has a place in an address.
std::string other_sessions(const std::set<std::string>& sessions) {
    const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_';
    };
    std::string list;
    for (const auto& session : sessions) {
        if (!session.empty() && session.size() <= kSessionNameMax &&
            std::ranges::all_of(session, plain) && list.size() < kSessionsBytesMax) {
            list += (list.empty() ? "&sessions=" : ",") + session;
        }
    }
    return list;
}

// Runs blocking calls one after the other, beside the loop.
class Worker {
public:
    Worker() : thread_([this](const std::stop_token& stop) { run(stop); }) {}

    void post(std::function<void()> work) {
        const std::lock_guard lock(mutex_);
        work_.push_back(std::move(work));
        more_.notify_one();
    }

private:
    void run(const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        while (more_.wait(lock, stop, [this] { return !work_.empty(); })) {
            const auto work = std::move(work_.front());
            work_.pop_front();
            lock.unlock();
            work();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable_any more_;
    std::deque<std::function<void()>> work_;
    std::jthread thread_;  // last: it uses the others
};

class RelayProcess final : public relay::LocalClients, public relay::KernelAtGateway {
public:
    RelayProcess(jupyter::ConnectionFile connection, RelayGateway gateway, KernelWanted wanted,
                 RelayGuardian& guardian)
        : connection_(std::move(connection)),
          gateway_(std::move(gateway)),
          wanted_(std::move(wanted)),
          guardian_(guardian),
          factory_(loop_.clock(), io::random_uuid),
          session_(io::random_uuid().str()),
          relay_({.kernel = {.id = wanted_.id, .ends_with_relay = !wanted_.named},
                  .session = session_},
                 {.factory = factory_,
                  .clients = *this,
                  .kernel = *this,
                  .end = [this](int code) { end(code); }}),
          link_({}, {.clock = loop_.clock(),
                     .connect = [this] { connect(); },
                     .ping = [this] { socket_->ping(); },
                     .after = [this](auto delay, auto work) { loop_.after(delay, work); },
                     .opened = [this] { relay_.opened(); },
                     .lost = [this] { relay_.lost(); },
                     .gave_up = [this](const auto& why) { relay_.gone(why); }}) {}

    Status bind() {
        const auto router = [this](Channel channel, std::uint16_t port) {
            return bind(ports_[static_cast<std::size_t>(channel)], io::ZmqKind::kRouter, port,
                        [this, channel](io::Frames frames) { receive(channel, frames); });
        };
        for (const auto& bound :
             {router(Channel::kShell, connection_.shell_port),
              router(Channel::kControl, connection_.control_port),
              router(Channel::kStdin, connection_.stdin_port),
              bind(ports_[static_cast<std::size_t>(Channel::kIopub)], io::ZmqKind::kPublish,
                   connection_.iopub_port,
                   [this](const io::Frames& frames) { subscription(frames.front().view()); }),
              bind(heartbeat_, io::ZmqKind::kReply, connection_.hb_port,
                   [this](io::Frames frames) { heartbeat_->send(std::move(frames)); })}) {
            if (!bound) {
                return bound;
            }
        }
        return ok();
    }

    int run() {
        loop_.on_signal(SIGINT, [this] { relay_.interrupt(); });
        loop_.on_signal(SIGTERM, [this] { relay_.terminate(); });
        // NOLINTNEXTLINE(concurrency-mt-unsafe): set before any thread
        if (const char* parent = std::getenv("JPY_PARENT_PID"); parent && *parent != '\0') {
            watch_parent(getppid());
        }
        if (!wanted_.named) {
            guardian_.guard(wanted_.id);
        }
        in_background(
            [this] {
                auto kernel = gateway_.start(wanted_);
                to_remove_ = kernel ? kernel->id : std::string();
                return kernel;
            },
            [this](Result<relay::Kernel> kernel) { started(std::move(kernel)); });
        loop_.run();
        return exit_code_;
    }

private:
    Status bind(std::unique_ptr<io::ZmqPort>& port, io::ZmqKind kind, std::uint16_t number,
                io::ZmqPort::OnMessage on_message) {
        auto bound = io::ZmqPort::bind(loop_, context_, kind, connection_.endpoint(number),
                                       std::move(on_message));
        if (!bound) {
            return std::move(bound).error();
        }
        port = std::move(*bound);
        return ok();
    }

    // `call` blocks, on the worker's thread; `done` gets its result on the loop.
    template <class Call, class Done>
    void in_background(Call call, Done done) {
        worker_.post([this, call = std::move(call), done = std::move(done)] {
            auto result = std::make_shared<decltype(call())>(call());
            loop_.post([done, result] { done(std::move(*result)); });
        });
    }

    void started(Result<relay::Kernel> kernel) {
        if (!kernel) {
            relay_.gone(kernel.error().what);
            return;
        }
        kernel_id_ = kernel->id;
        if (kernel->ends_with_relay) {
            guardian_.guard(kernel_id_);
        }
        log_info("relay", "kernel {} at {}", kernel_id_, gateway_.place().url);
        relay_.found(std::move(*kernel));
        link_.start();
    }

    // The process that started us is gone: nobody can end us any more.
    void watch_parent(pid_t parent) {
        if (getppid() != parent) {
            log_info("relay", "the process that started this one has gone");
            relay_.terminate();
            return;
        }
        loop_.after(kParentPoll, [this, parent] { watch_parent(parent); });
    }

    // ---- local clients ----

    void receive(Channel channel, const io::Frames& frames) {
        auto message = jupyter::from_signed_frames(channel, frames, connection_.key);
        if (message) {
            relay_.receive(std::move(*message));
        } else if (refused_++ < kLoggedRefusals) {
            log_warning("relay", "a message on {} was dropped: {}", jupyter::name(channel),
                        message.error().what);
        }
    }

    void subscription(std::string_view event) {
        if (!event.empty() && event.front() == '\x01') {
            relay_.subscribed(event.substr(1));
        }
    }

    void send(const jupyter::Addressed& message) override {
        ports_[static_cast<std::size_t>(message.message.channel)]->send(
            jupyter::to_signed_frames(message, connection_.key));
    }

    // ---- the gateway ----

    void connect() {
        const auto url = io::parse_http_url(gateway_.place().url);
        auto path = url->path == "/" ? std::string() : url->path;
        io::WebSocketAddress address{.host = url->host,
                                     .port = url->port,
                                     .target = path + "/api/kernels/" + kernel_id_ +
                                               "/channels?session_id=" + session_ +
                                               other_sessions(relay_.waiting_sessions()),
                                     .token = gateway_.place().token,
                                     .subprotocol = std::string(jupyter::kWsSubprotocolV1)};
        socket_ = std::make_unique<io::WebSocketClient>(
            loop_, std::move(address), io::WebSocketClientOptions{},
            io::WebSocketClient::Events{
                .opened = [this] { link_.connected(); },
                .refused =
                    [this](int status) {
                        link_.refused(status, "status " + std::to_string(status));
                    },
                .message = [this](std::string_view payload,
                                  bool binary) { from_gateway(payload, binary); },
                .pong = [this] { link_.pong(); },
                .closed = [this](const std::string& why) { link_.closed(why); }});
    }

    void from_gateway(std::string_view payload, bool binary) {
        const auto message = jupyter::decode_ws(payload, binary, jupyter::WsProtocol::kV1);
        if (message) {
            relay_.from_gateway(*message);
        } else {
            log_error("relay", "a message of the gateway was dropped: {}", message.error().what);
        }
    }

    void send(const jupyter::Message& message) override {
        auto payload = jupyter::encode_ws(message, jupyter::WsProtocol::kV1);
        socket_->send(std::move(payload.bytes), payload.binary);
    }

    void restart(Done done) override {
        in_background([this, id = kernel_id_] { return gateway_.restart(id); }, std::move(done));
    }

    void remove(Done done) override {
        link_.stop();
        // Behind a start that is still under way, whose kernel it is then.
        in_background([this] { return to_remove_.empty() ? ok() : gateway_.remove(to_remove_); },
                      [this, done = std::move(done)](const Status& status) {
                          if (status) {
                              guardian_.dismiss();
                          }
                          done(status);
                      });
    }

    void end(int exit_code) {
        exit_code_ = exit_code;
        link_.stop();
        loop_.post([this] { loop_.stop(); });
    }

    jupyter::ConnectionFile connection_;
    RelayGateway gateway_;
    KernelWanted wanted_;
    RelayGuardian& guardian_;
    io::EventLoop loop_;
    io::ZmqContext context_;
    jupyter::MessageFactory factory_;
    std::string session_;    // ours at the gateway, for as long as this process lives
    std::string kernel_id_;  // once there is a kernel
    std::string to_remove_;  // the same, on the worker's thread
    relay::Relay relay_;
    relay::GatewayLink link_;
    std::unique_ptr<io::WebSocketClient> socket_;
    std::array<std::unique_ptr<io::ZmqPort>, 4> ports_;  // by channel
    std::unique_ptr<io::ZmqPort> heartbeat_;
    std::size_t refused_ = 0;
    int exit_code_ = 0;
    Worker worker_;  // last: it calls into the others
};

}  // namespace

int run_kernel_relay(const jupyter::ConnectionFile& connection, const std::string& file,
                     const GatewayPlace& place, const KernelWanted& wanted) {
    if (connection.key.empty()) {
        log_warning("relay", "{} has no key: whoever reaches its ports can run code in the kernel",
                    file);
    }
    const RelayGateway gateway(place);
    RelayGuardian guardian(gateway);
    RelayProcess process(connection, gateway, wanted, guardian);
    if (auto bound = process.bind(); !bound) {
        guardian.dismiss();
        return complain(std::move(bound).error().in("connection file " + file));
    }
    return process.run();
}

}  // namespace nbos::cli
