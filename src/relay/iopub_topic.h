// The topic frame under which stock ipykernel publishes a message; subscribers may filter by it.
//
// Source   ipykernel 7: Kernel._topic, OutStream.topic, ZMQDisplayPublisher.topic, comm's BaseComm.
#pragma once

#include <string>
#include <string_view>

#include "jupyter/message.h"

namespace nbos::relay {

// "stream.stdout", "display_data", "comm-ID", "kernel.ID.status", ...
std::string iopub_topic(const jupyter::Message& message, std::string_view msg_type,
                        std::string_view kernel_id);

}  // namespace nbos::relay
