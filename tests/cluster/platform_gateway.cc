#include "tests/cluster/platform_gateway.h"

#include <utility>
#include <variant>
#include <vector>

namespace nbos::testing {
namespace {

constexpr milliseconds kTick{50};
constexpr milliseconds kHostSilence{5000};
constexpr milliseconds kClientSilence{90'000};

class Folders final : public gateway::Workspace {
public:
    std::string resolve(const std::string&) const override { return "/workspace"; }
};

gateway::HostState state_of(PeerState state) {
    switch (state) {
        case PeerState::kUp:
            return gateway::HostState::kUp;
        case PeerState::kRefused:
            return gateway::HostState::kRefused;
        case PeerState::kDown:
            break;
    }
    return gateway::HostState::kDown;
}

jupyter::HttpResponse no_answer() { return {.status = 0}; }

}  // namespace

// The process: plugged together as in cli/run_gateway.cc.
struct PlatformGateway::GatewayProcess final : public gateway::AgentLink {
    explicit GatewayProcess(PlatformGateway& owner)
        : owner_(owner),
          gateway_(config(owner.address_), gateway::Kernelspecs(),
                   {owner.wires_.time, owner.new_uuid_, *this, folders_}),
          transport_(
              owner.wires_,
              {.self = owner.address_,
               .listens = false,
               .silence_max = kHostSilence,
               .frame = [this](const HostId& from, FrameKind,
                               std::string_view payload) { gateway_.receive(from, payload); },
               .state = [this](
                            const HostId& peer,
                            PeerState state) { gateway_.host_changed(peer, state_of(state)); }}) {
        std::map<HostId, std::string> addresses;
        for (const auto& host : owner.hosts_) {
            addresses[HostId{host}] = host + ":1";
        }
        gateway_.set_hosts(addresses);
        transport_.set_peers(owner.hosts_);
    }

    static gateway::GatewayConfig config(const Address& id) {
        gateway::GatewayConfig config;
        config.id = id;
        config.token = kToken;
        return config;
    }

    void send(const HostId& host, const cluster::Rpc& rpc) override {
        if (forgets(rpc)) {
            return;
        }
        transport_.send(host, FrameKind::kRpc, cluster::encode(rpc));
    }

    bool forgets(const cluster::Rpc& rpc) {
        if (owner_.planted_ == PlantedInPlatform::kHeardForgotten &&
            std::holds_alternative<cluster::Heard>(rpc)) {
            return true;
        }
        const auto* message = std::get_if<cluster::ClientMessage>(&rpc);
        if (owner_.planted_ != PlantedInPlatform::kQueuedCellForgotten || message == nullptr) {
            return false;
        }
        const auto& header = message->message.header;
        asked_.insert(header);
        return owner_.asked_before_.contains(header);
    }

    PlatformGateway& owner_;
    Folders folders_;
    gateway::Gateway gateway_;
    SimTransport transport_;
    std::map<Network::StreamId, std::unique_ptr<jupyter::WebSocketHandler>> sockets_;
    std::set<std::string> asked_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

    class Socket final : public jupyter::WebSocket {
    public:
        Socket(GatewayProcess& process, std::shared_ptr<Network::StreamId> id)
            : process_(process), alive_(process.alive_), id_(std::move(id)) {}
        void send(Bytes payload, bool binary) override {
            if (!alive_.expired()) {
                std::string framed(1, binary ? 'b' : 't');
                framed.append(payload.view());
                process_.owner_.wires_.network.send(*id_, Network::Side::kAcceptor,
                                                    static_cast<int>(FrameKind::kWebSocket),
                                                    Bytes(std::move(framed)));
            }
        }
        void close(std::uint16_t, std::string_view) override {
            if (alive_.expired()) {
                return;
            }
            process_.owner_.wires_.network.close(*id_, Network::Side::kAcceptor);
            process_.owner_.wires_.time.after(milliseconds(0),
                                              [&process = process_, alive = alive_, id = *id_] {
                                                  if (!alive.expired()) {
                                                      process.socket_closed(id);
                                                  }
                                              });
        }

    private:
        GatewayProcess& process_;
        std::weak_ptr<bool> alive_;
        std::shared_ptr<Network::StreamId> id_;
    };

    void socket_closed(Network::StreamId id) {
        if (auto handler = sockets_.extract(id); !handler.empty()) {
            handler.mapped()->closed();
        }
    }
};

PlatformGateway::PlatformGateway(Address address, std::set<Address> hosts, Wires& wires,
                                 std::function<Uuid()> new_uuid, PlantedInPlatform planted)
    : address_(std::move(address)),
      hosts_(std::move(hosts)),
      wires_(wires),
      new_uuid_(std::move(new_uuid)),
      planted_(planted) {
    tick();
}

PlatformGateway::~PlatformGateway() = default;

void PlatformGateway::tick() {
    wires_.time.after(kTick, [this] { tick(); });
    if (running_) {
        running_->gateway_.tick();
    }
}

void PlatformGateway::start() {
    if (state_ == Process::kDead) {
        ++life_;
        state_ = Process::kRuns;
        running_ = std::make_unique<GatewayProcess>(*this);
    }
}

void PlatformGateway::kill() {
    if (!running_) {
        return;
    }
    state_ = Process::kDead;
    asked_before_.merge(running_->asked_);
    wires_.network.process_died(address_);
    running_.reset();
    for (auto& [id, answer] : std::exchange(calls_, {})) {
        wires_.time.after(milliseconds(5), [answer = std::move(answer)] { answer(no_answer()); });
    }
}

void PlatformGateway::stop() {
    if (!running_) {
        return;
    }
    std::vector<Network::StreamId> open;
    for (const auto& [id, handler] : running_->sockets_) {
        open.push_back(id);
    }
    for (const auto id : open) {  // what was said reaches the clients first
        wires_.network.close(id, Network::Side::kAcceptor);
    }
    kill();
}

void PlatformGateway::http(const Address& client, jupyter::HttpRequest request,
                           std::function<void(jupyter::HttpResponse)> answer) {
    request.headers["authorization"] = std::string("token ") + kToken;
    const auto call = ++last_call_;
    calls_[call] = std::move(answer);
    const auto respond = [this, client, call](jupyter::HttpResponse response) {
        wires_.time.after(wires_.network.delay(address_, client), [this, call, response] {
            if (auto waiting = calls_.extract(call); !waiting.empty()) {
                waiting.mapped()(response);
            }
        });
    };
    const bool cut = wires_.network.is_cut(client, address_);
    wires_.time.after(wires_.network.delay(client, address_), [this, cut, request, respond] {
        if (!running_ || cut) {
            respond(no_answer());
            return;
        }
        running_->gateway_.handle(request, respond);
    });
}

void PlatformGateway::websocket(const Address& client, jupyter::HttpRequest request, StreamEnd end,
                                std::function<void(Network::StreamId)> opened) {
    request.headers["authorization"] = std::string("token ") + kToken;
    const bool cut =
        wires_.network.is_cut(client, address_) || wires_.network.is_cut(address_, client);
    wires_.time.after(wires_.network.delay(client, address_),
                      [this, cut, request = std::move(request), end = std::move(end),
                       opened = std::move(opened)] {
                          if (!running_ || cut) {
                              opened(0);
                          } else {
                              accept(request, end, opened);
                          }
                      });
}

void PlatformGateway::accept(const jupyter::HttpRequest& request, StreamEnd end,
                             const std::function<void(Network::StreamId)>& opened) {
    auto answer = running_->gateway_.upgrade(request);
    auto* accepted = std::get_if<jupyter::WebSocketAccept>(&answer);
    if (accepted == nullptr) {
        opened(0);
        return;
    }
    const auto id = std::make_shared<Network::StreamId>(0);
    const std::weak_ptr<bool> alive = running_->alive_;
    auto* process = running_.get();
    StreamEnd mine{.address = address_,
                   .silence_max = kClientSilence,
                   .frame =
                       [process, alive, id](int, std::string_view payload) {
                           if (alive.expired()) {
                               return;
                           }
                           const auto found = process->sockets_.find(*id);
                           if (found != process->sockets_.end()) {
                               found->second->message(payload.substr(1), payload.front() == 'b');
                           }
                       },
                   .closed =
                       [process, alive, id] {
                           if (!alive.expired()) {
                               process->socket_closed(*id);
                           }
                       }};
    *id = wires_.network.open(std::move(end), std::move(mine));
    opened(*id);
    process->sockets_[*id] =
        accepted->opened(std::make_shared<GatewayProcess::Socket>(*process, id));
}

}  // namespace nbos::testing
