#include "relay/iopub_topic.h"

#include <fmt/core.h>

#include "jupyter/json_field.h"

namespace nbos::relay {

std::string iopub_topic(const jupyter::Message& message, std::string_view msg_type,
                        std::string_view kernel_id) {
    if (msg_type == "stream") {
        return "stream." + jupyter::string_field(message.content, "name");
    }
    if (msg_type == "display_data" || msg_type == "update_display_data" ||
        msg_type == "clear_output") {
        return "display_data";
    }
    if (msg_type.starts_with("comm_")) {
        return "comm-" + jupyter::string_field(message.content, "comm_id");
    }
    return fmt::format("kernel.{}.{}", kernel_id,
                       msg_type == "shutdown_reply" ? "shutdown" : msg_type);
}

}  // namespace nbos::relay
