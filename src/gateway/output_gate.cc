#include "gateway/output_gate.h"

#include <algorithm>
#include <utility>

#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::gateway {
namespace {

constexpr std::chrono::milliseconds kSlotTime{100};

std::int64_t slot_number(Instant now) { return now / kSlotTime; }

// The inside of a JSON string: joined as it stands, so that nothing is decoded and encoded again.
std::string_view inside(std::string_view quoted) {
    return quoted.size() >= 2 && quoted.front() == '"' ? quoted.substr(1, quoted.size() - 2)
                                                       : std::string_view();
}

}  // namespace

OutputRate::Slot& OutputRate::slot(Instant now) {
    const auto number = slot_number(now);
    auto& slot = slots_[static_cast<std::size_t>(number) % kSlots];
    if (slot.number != number) {
        slot = {.number = number};
    }
    return slot;
}

OutputRate::Slot OutputRate::sum(Instant now) const {
    Slot total;
    for (const auto& slot : slots_) {
        if (slot.number >= 0 &&
            slot_number(now) - slot.number < static_cast<std::int64_t>(kSlots)) {
            total.bytes += slot.bytes;
            total.messages += slot.messages;
        }
    }
    return total;
}

void OutputRate::came(Instant now, std::size_t bytes) { slot(now).bytes += bytes; }
void OutputRate::left(Instant now) { ++slot(now).messages; }

void OutputRate::cell_begins() {
    for (auto& slot : slots_) {
        slot.bytes = 0;
    }
}

bool OutputRate::too_many_bytes(Instant now, std::size_t shown, const OutputLimits& limits) {
    const auto in = [per_s = static_cast<std::uint64_t>(limits.mib_per_s) << 20U](auto time) {
        return per_s * static_cast<std::uint64_t>(time.count());
    };
    return limits.mib_per_s > 0 && shown >= in(kOutputAllowance) &&
           sum(now).bytes >= in(kOutputWindow);
}

bool OutputRate::too_many_messages(Instant now, const OutputLimits& limits) {
    const auto max = static_cast<std::uint64_t>(limits.messages_per_s) *
                     static_cast<std::uint64_t>(kOutputWindow.count());
    return max > 0 && sum(now).messages >= max;
}

void HeldOutputs::add(const std::string& id, const jupyter::Message& message) {
    Held held{.last_id = id, .message = message, .stream = {}, .text = {}};
    if (jupyter::string_field(message.header, "msg_type") == "stream") {
        const auto fields = jupyter::object_fields(message.content);
        const auto name = fields ? fields->find("name") : decltype(fields->find("name")){};
        const auto text = fields ? fields->find("text") : decltype(fields->find("text")){};
        if (fields && name != fields->end() && text != fields->end()) {
            held.stream = name->second;
            held.text = inside(text->second);
        }
    }
    bytes_ += message.content.size();
    if (!held_.empty() && !held.stream.empty() && held_.back().stream == held.stream &&
        held_.back().text.size() + held.text.size() <= kMergedBytesMax) {
        held_.back().text += held.text;
        held_.back().last_id = id;
        return;
    }
    held_.push_back(std::move(held));
}

std::optional<HeldOutput> HeldOutputs::take() {
    if (held_.empty()) {
        return std::nullopt;
    }
    auto held = std::move(held_.front());
    held_.pop_front();
    if (!held.stream.empty()) {
        held.message.content = "{\"name\": " + held.stream + ", \"text\": \"" + held.text + "\"}";
    }
    bytes_ = held_.empty() ? 0 : bytes_ - std::min(bytes_, held.message.content.size());
    return HeldOutput{std::move(held.last_id), std::move(held.message)};
}

}  // namespace nbos::gateway
