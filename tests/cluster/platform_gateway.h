// The real gateway as a process: nothing of it outlives it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "gateway/gateway.h"
#include "tests/cluster/platform_host.h"
#include "tests/cluster/platform_transport.h"

namespace nbos::testing {

class PlatformGateway {
public:
    static constexpr const char* kToken = "secret";

    PlatformGateway(Address address, std::set<Address> hosts, Wires& wires,
                    std::function<Uuid()> new_uuid, PlantedInPlatform planted);
    ~PlatformGateway();

    const Address& address() const { return address_; }
    Process process() const { return state_; }
    void start();
    void kill();
    void stop();  // in order: clients are told to reconnect

    // From a client: `answer` has status 0 when there is none.
    void http(const Address& client, jupyter::HttpRequest request,
              std::function<void(jupyter::HttpResponse)> answer);
    // `opened` with 0 when it was refused. The client's end is given.
    void websocket(const Address& client, jupyter::HttpRequest request, StreamEnd end,
                   std::function<void(Network::StreamId)> opened);
    std::size_t lives() const { return life_; }

private:
    struct GatewayProcess;
    void tick();
    void accept(const jupyter::HttpRequest& request, StreamEnd end,
                const std::function<void(Network::StreamId)>& opened);

    Address address_;
    std::set<Address> hosts_;
    Wires& wires_;
    std::function<Uuid()> new_uuid_;
    PlantedInPlatform planted_;
    Process state_ = Process::kDead;
    std::set<std::string> asked_before_;  // by earlier lives, for a planted bug
    std::unique_ptr<GatewayProcess> running_;
    std::uint64_t life_ = 0;
    std::uint64_t last_call_ = 0;
    std::map<std::uint64_t, std::function<void(jupyter::HttpResponse)>> calls_;  // unanswered
};

}  // namespace nbos::testing
