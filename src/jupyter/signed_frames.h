// Signed ZeroMQ frames, as a kernel exchanges them with local clients: identities, "<IDS|MSG>", the
// HMAC-SHA256 of the four JSON texts in hexadecimal, these texts, buffers.
//
// Decoding is for hostile input: what is not signed with the key, or is no message, is refused.
//
// Source   jupyter_client documentation, "Messaging in Jupyter", the wire protocol.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "jupyter/message.h"

namespace nbos::jupyter {

struct Addressed {
    std::vector<Bytes> identities;  // of a ROUTER's peer, or a topic
    Message message;
};

// Empty for an empty key: such a connection is not signed.
std::string signature(const Message& message, std::string_view key);

std::vector<Bytes> to_signed_frames(const Addressed& addressed, std::string_view key);

// kInvalid, with the reason: no delimiter, frames missing, a wrong signature, a part that is no
// JSON object, a header without msg_id or msg_type.
Result<Addressed> from_signed_frames(Channel channel, const std::vector<Bytes>& frames,
                                     std::string_view key);

}  // namespace nbos::jupyter
