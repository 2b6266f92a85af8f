#include "io/interpreter_owner.h"

#include <fmt/core.h>

#include <fstream>
#include <sstream>

#include "base/log.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::io {
namespace {

std::string file_in(const std::string& directory) { return directory + "/owner.json"; }

std::string contents(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::string text;  // empty when the process ends while its file is read
    std::getline(in, text, '\0');
    return text;
}

// When the process began, in clock ticks: a number that comes again names another one. Empty for
// one that has ended.
std::string birth(pid_t pid) {
    const auto stat = contents(fmt::format("/proc/{}/stat", pid));
    const auto name_ends = stat.rfind(')');  // a name may hold anything
    if (name_ends == std::string::npos) {
        return {};
    }
    std::istringstream fields(stat.substr(name_ends + 1));
    std::string field;
    fields >> field;
    if (field == "Z") {
        return {};
    }
    constexpr int kFieldsToStart = 19;
    for (int i = 0; i < kFieldsToStart; ++i) {
        fields >> field;
    }
    return field;
}

}  // namespace

void write_owner(const std::string& directory, const InterpreterOwner& owner) {
    using jupyter::json_quoted;
    std::ofstream out(file_in(directory), std::ios::binary | std::ios::trunc);
    out << fmt::format(
        R"({{"kernel": {}, "replica": {}, "session": {}, "spec": {}, "pid": {}, "birth": {}}})",
        json_quoted(owner.kernel.value.str()), owner.replica.value, json_quoted(owner.session),
        json_quoted(owner.spec), owner.pid, json_quoted(birth(owner.pid)));
    out.close();
    if (!out) {
        log_warning("interpreters", "cannot write {}: this interpreter will not outlive its agent",
                    file_in(directory));
    }
}

std::optional<InterpreterOwner> read_owner(const std::string& directory) {
    const auto text = contents(file_in(directory));
    const auto kernel = Uuid::parse(jupyter::string_field(text, "kernel"));
    const auto pid = static_cast<pid_t>(jupyter::uint_field(text, "pid"));
    if (!kernel || pid <= 1) {
        return std::nullopt;
    }
    const auto born = birth(pid);
    if (born.empty() || born != jupyter::string_field(text, "birth")) {
        return std::nullopt;
    }
    return InterpreterOwner{.kernel = KernelId{*kernel},
                            .replica = ReplicaId{jupyter::uint_field(text, "replica")},
                            .session = jupyter::string_field(text, "session"),
                            .spec = jupyter::string_field(text, "spec"),
                            .pid = pid};
}

}  // namespace nbos::io
