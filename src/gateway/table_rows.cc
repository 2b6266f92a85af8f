#include "gateway/table_rows.h"

#include <utility>

#include "base/wire.h"

namespace nbos::gateway {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::string_view kKernels = "kernel/";
constexpr std::string_view kSessions = "session/";

}  // namespace

Bytes encode(const KernelRow& row) {
    Writer out;
    out.put(kVersion).put(row.state).put(row.spec).put(row.until.count()).put(row.path);
    out.put(row.start.has_value());
    if (row.start) {
        nbos::encode(out, row.start->members);
        replica::encode(out, row.start->options);
    }
    return out.take_bytes();
}

std::optional<KernelRow> decode_kernel_row(std::string_view bytes) {
    Reader in(bytes);
    if (in.get<std::uint8_t>() != kVersion) {
        return std::nullopt;
    }
    KernelRow row;
    row.state = in.get<KernelRow::State>();
    row.spec = in.string();
    row.until = std::chrono::microseconds(in.get<std::chrono::microseconds::rep>());
    row.path = in.string();
    if (replica::get_bool(in)) {
        auto members = decode_membership(in);
        row.start.emplace();
        row.start->options = replica::decode_kernel_options(in);
        if (members) {
            row.start->members = std::move(*members);
        }
    }
    const bool good = in.done() && row.state <= KernelRow::State::kDeleted;
    return good ? std::optional(std::move(row)) : std::nullopt;
}

Bytes encode(const Session& session) {
    Writer out;
    out.put(kVersion).put(session.model.path).put(session.model.name).put(session.model.type);
    out.put(session.kernel.value);
    return out.take_bytes();
}

std::optional<Session> decode_session_row(const std::string& id, std::string_view bytes) {
    Reader in(bytes);
    if (in.get<std::uint8_t>() != kVersion) {
        return std::nullopt;
    }
    Session session;
    session.model.id = id;
    session.model.path = in.string();
    session.model.name = in.string();
    session.model.type = in.string();
    session.kernel = KernelId{in.uuid()};
    return in.done() ? std::optional(std::move(session)) : std::nullopt;
}

std::string kernel_key(KernelId kernel) { return std::string(kKernels) + kernel.value.str(); }

std::string session_key(const std::string& session) { return std::string(kSessions) + session; }

std::optional<KernelId> kernel_of(std::string_view key) {
    if (!key.starts_with(kKernels)) {
        return std::nullopt;
    }
    const auto id = Uuid::parse(key.substr(kKernels.size()));
    return id ? std::optional(KernelId{*id}) : std::nullopt;
}

std::optional<std::string> session_of(std::string_view key) {
    return key.starts_with(kSessions) ? std::optional(std::string(key.substr(kSessions.size())))
                                      : std::nullopt;
}

}  // namespace nbos::gateway
