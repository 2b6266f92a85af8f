// The gateway of `nbos kernel-relay`: where it is, and what is asked of it by plain calls.
//
// Threads  Any one; calls block. Errors say what to do, and never show the token.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "base/result.h"
#include "relay/relay.h"

namespace nbos::cli {

struct GatewayPlace {
    std::string url;    // no slash at the end
    std::string token;  // a secret
};

// `url` as given, else $NBOS_GATEWAY_URL, else the cluster that runs from `data`. The token is that
// of `token_file`, else $NBOS_TOKEN, else that cluster's if the gateway is its own.
Result<GatewayPlace> find_gateway(const std::string& url, const std::string& token_file,
                                  const std::string& data);

struct KernelWanted {
    std::string spec;    // empty: the gateway's default
    std::string id;      // a UUID
    bool named = false;  // `id` is the user's KERNEL_ID: a kernel that has it is taken as it is
    std::map<std::string, std::string> env;
};

class RelayGateway {
public:
    explicit RelayGateway(GatewayPlace place) : place_(std::move(place)) {}

    // Finds or makes the kernel. A gateway that is not there yet is waited for, for a while. When
    // the id was used up, the kernel gets another one.
    Result<relay::Kernel> start(const KernelWanted& wanted) const;
    Status restart(const std::string& kernel_id) const;
    Status remove(const std::string& kernel_id) const;  // also good when it is gone already
    // How many clients are connected to it; kNotFound when there is no such kernel.
    Result<std::uint64_t> connections(const std::string& kernel_id) const;

    const GatewayPlace& place() const { return place_; }

private:
    struct Answer {
        int status = 0;
        std::string body;
    };
    Result<Answer> call(const std::string& method, const std::string& path, const std::string& body,
                        std::chrono::milliseconds limit) const;
    // Until it neither fails to connect nor says "try again", or the time is over.
    Result<Answer> patient_call(const std::string& method, const std::string& path,
                                const std::string& body) const;
    Result<std::string> create(const KernelWanted& wanted) const;

    GatewayPlace place_;
};

}  // namespace nbos::cli
