#include "tests/cluster/platform_host.h"

#include <utility>
#include <variant>

#include "base/check.h"
#include "jupyter/json_field.h"

namespace nbos::testing {
namespace {

constexpr milliseconds kTick{50};

bool is_gateway(const HostId& peer) { return peer.value.starts_with("gateway"); }

// The header with another session: what a log that recognises no repeated message would see.
std::string with_other_session(std::string header, const std::string& session) {
    const auto at = header.find('"' + session + '"');
    return at == std::string::npos ? header : header.insert(at + 1 + session.size(), "'");
}

}  // namespace

// To the host's interpreters, as long as the agent runs: a killed process tidies nothing up, though
// the object that stands for it is destroyed.
class PlatformHost::InterpreterPort final : public agent::Interpreters {
public:
    explicit InterpreterPort(PlatformInterpreters& to) : to_(&to) {}
    void disconnect() { to_ = nullptr; }

    agent::InterpreterId start(const agent::Adoption& adoption) override {
        return to_->start(adoption);
    }
    bool survives(agent::InterpreterId id) const override { return to_->survives(id); }
    void resume(agent::InterpreterId id) override { to_->resume(id); }
    void settled(agent::InterpreterId id, CellNumber cell) override { to_->settled(id, cell); }
    void expect(agent::InterpreterId id, const agent::Survivor::Claim& claim) override {
        to_->expect(id, claim);
    }
    void load(agent::InterpreterId id, Sequence sequence, Bytes table) override {
        to_->load(id, sequence, std::move(table));
    }
    void apply(agent::InterpreterId id, Sequence base, Sequence sequence, Bytes delta) override {
        to_->apply(id, base, sequence, std::move(delta));
    }
    void run(agent::InterpreterId id, const agent::RunOrder& order) override {
        to_->run(id, order);
    }
    void send(agent::InterpreterId id, const jupyter::Message& message) override {
        to_->send(id, message);
    }
    void interrupt(agent::InterpreterId id) override { to_->interrupt(id); }
    void crash(agent::InterpreterId id) override { to_->crash(id); }
    void discard(agent::InterpreterId id) override {
        if (to_ != nullptr) {
            to_->discard(id);
        }
    }

private:
    PlatformInterpreters* to_;
};

// The process: plugged together as in cli/run_agent.cc.
struct PlatformHost::AgentProcess final : public raft::PeerLink, public agent::GatewayLink {
    explicit AgentProcess(PlatformHost& host)
        : host_(host),
          interpreters_(host.interpreters_),
          agent_({.host = HostId{host.address_},
                  .info = {.host = HostId{host.address_}, .version = "sim", .cpus = 8},
                  .raft = host.options_.raft,
                  .replica = host.options_.replica,
                  .seed = host.options_.seed + host.life_},
                 host.disk_, *this, interpreters_, *this),
          transport_(host.wires_,
                     {.self = host.address_,
                      .incarnation = host.life_ + 1,
                      .frame = [this](const HostId& from, FrameKind kind,
                                      std::string_view payload) { receive(from, kind, payload); },
                      .state = [this](const HostId& peer,
                                      PeerState state) { peer_changed(peer, state); }}) {
        agent_.tick(host.wires_.time.now());
        agent_.restore(host.disk_.restored());
        transport_.set_peers(host.peers_);
    }

    void receive(const HostId& from, FrameKind kind, std::string_view payload) {
        if (kind == FrameKind::kRaft) {
            agent_.receive_raft(from, payload);
            return;
        }
        gateways_.insert(from);
        if (host_.options_.planted == PlantedInPlatform::kRetryNotRecognised) {
            agent_.receive_rpc(from, as_if_new(payload).view());
        } else {
            agent_.receive_rpc(from, payload);
        }
    }

    Bytes as_if_new(std::string_view payload) {
        auto rpc = cluster::decode_rpc(payload);
        auto* message = rpc ? std::get_if<cluster::ClientMessage>(&*rpc) : nullptr;
        if (message == nullptr) {
            return Bytes::copy(payload);
        }
        auto& header = message->message.header;
        const auto parsed = jupyter::parse_header(header).value_or(jupyter::Header{});
        if (!seen_.insert(parsed.session + "/" + parsed.msg_id).second) {
            header = with_other_session(header, parsed.session);
        }
        return cluster::encode(*rpc);
    }

    void peer_changed(const HostId& peer, PeerState state) {
        if (is_gateway(peer)) {
            if (state != PeerState::kUp) {
                gateways_.erase(peer);
                agent_.gateway_lost(peer);
            }
        } else if (state == PeerState::kUp) {
            agent_.peer_up(peer, transport_.incarnation(peer));
        } else if (state == PeerState::kDown) {
            agent_.peer_down(peer);
        } else {
            agent_.peer_is_dead(peer);
        }
    }

    void send(const HostId& to, Bytes frame) override {
        transport_.send(to, FrameKind::kRaft, std::move(frame));
    }
    void send_bulk(const HostId& to, Bytes frame) override {
        transport_.send(to, FrameKind::kRaft, std::move(frame), true);
    }
    void send(const cluster::Rpc& rpc) override {
        host_.watchers_.said(host_.address_, rpc);
        auto said = rpc;
        if (auto* output = std::get_if<cluster::KernelOutput>(&said);
            output != nullptr && host_.options_.planted == PlantedInPlatform::kStaleOutputsShown) {
            output->fence = {};
        }
        const auto bytes = cluster::encode(said);
        for (const auto& gateway : gateways_) {
            transport_.send(gateway, FrameKind::kRpc, bytes);
        }
    }
    void send_to(const HostId& gateway, const cluster::Rpc& rpc) override {
        host_.watchers_.said(host_.address_, rpc);
        auto said = rpc;
        if (auto* news = std::get_if<cluster::CatchUp>(&said)) {
            forget_in(*news);
        }
        if (gateways_.contains(gateway)) {
            transport_.send(gateway, FrameKind::kRpc, cluster::encode(said));
        }
    }
    void forget_in(cluster::CatchUp& news) const {
        if (host_.options_.planted == PlantedInPlatform::kEndsToldAgain) {
            news.done.clear();
        } else if (host_.options_.planted == PlantedInPlatform::kOutputsToldAgain) {
            news.heard.clear();
        }
    }
    void hosts_known(const std::map<HostId, std::string>&) override {}

    PlatformHost& host_;
    InterpreterPort interpreters_;
    agent::Agent agent_;
    SimTransport transport_;
    std::set<HostId> gateways_;
    std::set<std::string> seen_;  // for a planted bug
};

PlatformHost::PlatformHost(Address address, std::set<Address> peers, Wires& wires,
                           const jupyter::MessageFactory& factory, HostOptions options,
                           HostWatchers watchers)
    : address_(std::move(address)),
      peers_(std::move(peers)),
      wires_(wires),
      options_(options),
      watchers_(std::move(watchers)),
      disk_(
          wires.time, wires.rng, [this](auto work) { post(std::move(work)); },
          [this] {
              // Not from inside the agent's own call.
              wires_.time.after(milliseconds(0), [this, life = life_] {
                  if (life == life_) {
                      agent_ends();
                  }
              });
          }),
      interpreters_(
          address_, options.interpreters,
          {.time = wires.time,
           .rng = wires.rng,
           .factory = factory,
           .to_agent =
               [this](auto report) {
                   post([this, report = std::move(report)] { report(agent_->agent_); });
               },
           .began = [this](const auto& session, const auto& msg_id,
                           const auto& who) { watchers_.began(session, msg_id, who); },
           .replied =
               [this](KernelId kernel, const jupyter::Message& reply) {
                   if (options_.planted != PlantedInPlatform::kReplyBeforeCommit || !agent_) {
                       return;
                   }
                   const auto cell =
                       jupyter::parse_header(reply.parent_header).value_or(jupyter::Header{});
                   agent_->send(cluster::CellEnded{.kernel = kernel,
                                                   .session = cell.session,
                                                   .msg_id = cell.msg_id,
                                                   .reply = reply});
               }}) {
    disk_.watch = [this](const raft::GroupWrite& write) { watchers_.wrote(address_, write); };
    if (options_.planted == PlantedInPlatform::kSyncNotAwaited) {
        disk_.lie();
    }
    tick();
}

PlatformHost::~PlatformHost() = default;

void PlatformHost::post(std::function<void()> work) {
    if (state_ == Process::kPaused) {
        deferred_.push_back(std::move(work));
    } else if (state_ == Process::kRuns) {
        // Never from inside the call that it answers.
        wires_.time.after(milliseconds(0), [this, life = life_, work = std::move(work)] {
            if (life != life_) {
                return;
            }
            if (state_ == Process::kPaused) {
                deferred_.push_back(work);
            } else if (agent_) {
                work();
            }
        });
    }
}

void PlatformHost::tick() {
    wires_.time.after(kTick, [this] { tick(); });
    if (state_ == Process::kRuns) {
        agent_->agent_.tick(wires_.time.now());
    }
}

void PlatformHost::start_agent() {
    if (state_ != Process::kDead && state_ != Process::kAway) {
        return;
    }
    if (!disk_.readable()) {
        state_ = Process::kDead;
        interpreters_.end_all();
        return;
    }
    ++life_;
    state_ = Process::kRuns;
    interpreters_.agent_starts();
    agent_ = std::make_unique<AgentProcess>(*this);
}

void PlatformHost::forget_agent() {
    ++life_;
    deferred_.clear();
    if (agent_) {
        agent_->interpreters_.disconnect();
        agent_.reset();
    }
}

void PlatformHost::kill_agent() {
    if (state_ != Process::kRuns && state_ != Process::kPaused) {
        return;
    }
    state_ = Process::kAway;
    wires_.network.process_died(address_);
    disk_.process_killed();
    forget_agent();
    interpreters_.agent_gone();
}

void PlatformHost::agent_ends() {
    kill_agent();
    if (state_ == Process::kAway) {
        state_ = Process::kDead;
        interpreters_.end_all();
    }
}

void PlatformHost::power_off() {
    if (state_ == Process::kOff) {
        return;
    }
    state_ = Process::kOff;
    wires_.network.power_lost(address_);
    disk_.power_lost();
    forget_agent();
    interpreters_.end_all();
}

void PlatformHost::power_on() {
    if (state_ == Process::kOff) {
        state_ = Process::kDead;
        start_agent();
    }
}

void PlatformHost::pause() {
    if (state_ == Process::kRuns) {
        state_ = Process::kPaused;
    }
}

void PlatformHost::resume() {
    if (state_ != Process::kPaused) {
        return;
    }
    state_ = Process::kRuns;
    for (auto& work : std::exchange(deferred_, {})) {
        post(std::move(work));
    }
    wires_.network.process_resumed(address_);
}

void PlatformHost::kill_interpreters(const std::string& why) { interpreters_.kill_all(why); }

}  // namespace nbos::testing
