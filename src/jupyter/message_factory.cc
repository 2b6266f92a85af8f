#include "jupyter/message_factory.h"

#include <fmt/core.h>

#include <boost/json.hpp>
#include <ctime>
#include <utility>

#include "jupyter/json_text.h"

namespace nbos::jupyter {

std::string iso_time(std::chrono::microseconds since_epoch) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
    const auto fraction = (since_epoch - seconds).count();
    const std::time_t when = static_cast<std::time_t>(seconds.count());
    std::tm parts{};
    gmtime_r(&when, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", parts.tm_year + 1900,
                       parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                       fraction);
}

Message MessageFactory::make(Channel channel, std::string_view type, std::string_view session,
                             std::string_view parent_header, std::string content) const {
    Message message;
    message.channel = channel;
    message.header =
        fmt::format(R"({{"msg_id": "{}", "msg_type": "{}", "username": "nbos", "session": {}, )"
                    R"("date": "{}", "version": "5.3"}})",
                    new_uuid_().str(), type, json_quoted(session), iso_time(clock_->wall()));
    message.parent_header = parent_header.empty() ? "{}" : std::string(parent_header);
    message.metadata = "{}";
    message.content = std::move(content);
    return message;
}

Message MessageFactory::status(std::string_view session, std::string_view parent_header,
                               std::string_view state) const {
    return make(Channel::kIopub, "status", session, parent_header,
                fmt::format(R"({{"execution_state": "{}"}})", state));
}

Message MessageFactory::stream(std::string_view session, std::string_view parent_header,
                               std::string_view text) const {
    return make(Channel::kIopub, "stream", session, parent_header,
                fmt::format(R"({{"name": "stderr", "text": {}}})", json_quoted(text)));
}

Message MessageFactory::error(std::string_view session, std::string_view parent_header,
                              std::string_view ename, std::string_view evalue) const {
    const std::string line = std::string(ename) + ": " + std::string(evalue);
    return make(Channel::kIopub, "error", session, parent_header,
                fmt::format(R"({{"ename": {}, "evalue": {}, "traceback": [{}]}})",
                            json_quoted(ename), json_quoted(evalue), json_quoted(line)));
}

Message MessageFactory::error_reply(Channel channel, std::string_view type,
                                    std::string_view session, std::string_view parent_header,
                                    std::string_view ename, std::string_view evalue,
                                    std::uint64_t execution_count) const {
    const std::string line = std::string(ename) + ": " + std::string(evalue);
    std::string content =
        fmt::format(R"({{"status": "error", "ename": {}, "evalue": {}, "traceback": [{}])",
                    json_quoted(ename), json_quoted(evalue), json_quoted(line));
    if (type == "execute_reply") {
        content +=
            fmt::format(R"(, "execution_count": {}, "user_expressions": {{}}, "payload": [])",
                        execution_count == 0 ? "null" : std::to_string(execution_count));
    }
    return make(channel, type, session, parent_header, content + "}");
}

Message MessageFactory::aborted_reply(std::string_view session,
                                      std::string_view parent_header) const {
    return make(Channel::kShell, "execute_reply", session, parent_header,
                R"({"status": "aborted", "execution_count": null})");
}

namespace {

// The end of the part that begins at `begin`: at most `bytes_max` on, and never inside a character.
std::size_t cut(std::string_view text, std::size_t begin, std::size_t bytes_max) {
    if (text.size() - begin <= bytes_max) {
        return text.size();
    }
    std::size_t end = begin + bytes_max;
    while (end > begin + 1 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) {
        --end;
    }
    return end;
}

}  // namespace

std::vector<Message> split_stream(Message message, std::size_t bytes_max,
                                  const std::function<Uuid()>& new_uuid) {
    std::vector<Message> parts;
    if (message.content.size() <= bytes_max ||
        parse_header(message.header).value_or(Header{}).msg_type != "stream") {
        parts.push_back(std::move(message));
        return parts;
    }
    boost::json::error_code error;
    auto content = boost::json::parse(message.content, error);
    auto header = boost::json::parse(message.header, error);
    auto* fields = content.if_object();
    const auto* value = fields == nullptr ? nullptr : fields->if_contains("text");
    if (error || value == nullptr || !value->is_string() || !header.is_object()) {
        parts.push_back(std::move(message));
        return parts;
    }
    const std::string text(value->get_string().data(), value->get_string().size());
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = cut(text, begin, bytes_max);
        Message part = message;
        if (begin > 0) {
            header.get_object()["msg_id"] = new_uuid().str();
            part.header = boost::json::serialize(header);
        }
        (*fields)["text"] = boost::json::string_view(text.data() + begin, end - begin);
        part.content = boost::json::serialize(content);
        parts.push_back(std::move(part));
        begin = end;
    }
    return parts;
}

}  // namespace nbos::jupyter
