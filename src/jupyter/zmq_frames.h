// A Jupyter message as ZeroMQ frames: identities, "<IDS|MSG>", signature, four JSON texts, buffers.
//
// Signatures are empty: the agent's sockets live in a directory that only its user can enter.
//
// Source   jupyter_client documentation, "Messaging in Jupyter", the wire protocol.
#pragma once

#include <optional>
#include <vector>

#include "base/bytes.h"
#include "jupyter/message.h"

namespace nbos::jupyter {

std::vector<Bytes> to_frames(const Message& message);
// nullopt when there is no delimiter or too few frames. Identities and topics are dropped.
std::optional<Message> from_frames(Channel channel, const std::vector<Bytes>& frames);

}  // namespace nbos::jupyter
