#include "tests/cluster/history.h"

#include <fmt/core.h>

#include <array>
#include <istream>
#include <utility>

#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::testing {
namespace {

struct Field {
    const char* name;
    std::string Record::* value;
};

constexpr std::array kFields = {
    Field{"kind", &Record::kind},       Field{"kernel", &Record::kernel},
    Field{"client", &Record::client},   Field{"msg", &Record::msg},
    Field{"op", &Record::op},           Field{"name", &Record::name},
    Field{"tag", &Record::tag},         Field{"asker", &Record::asker},
    Field{"speaker", &Record::speaker}, Field{"type", &Record::type},
    Field{"state", &Record::state},     Field{"ename", &Record::ename},
    Field{"text", &Record::text},       Field{"who", &Record::who}};

}  // namespace

std::string to_json_line(const Record& record) {
    auto line = fmt::format(R"({{"at_ms": {})", record.at_ms);
    for (const auto& field : kFields) {
        if (const auto& value = record.*field.value; !value.empty()) {
            line += fmt::format(R"(, "{}": {})", field.name, jupyter::json_quoted(value));
        }
    }
    if (record.count > 0) {
        line += fmt::format(R"(, "count": {})", record.count);
    }
    return line + "}";
}

std::optional<Record> record_from_json(std::string_view line) {
    if (!jupyter::is_json_object(line)) {
        return std::nullopt;
    }
    Record record;
    record.at_ms = jupyter::uint_field(line, "at_ms");
    for (const auto& field : kFields) {
        record.*field.value = jupyter::string_field(line, field.name);
    }
    record.count = jupyter::uint_field(line, "count");
    return record;
}

ReadHistory read_history(std::istream& in) {
    ReadHistory out;
    std::string line;
    for (std::size_t number = 1; std::getline(in, line); ++number) {
        if (line.empty()) {
            continue;
        }
        auto record = record_from_json(line);
        if (!record) {
            out.bad_line = number;
            return out;
        }
        out.history.push_back(std::move(*record));
    }
    return out;
}

}  // namespace nbos::testing
