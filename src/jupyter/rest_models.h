// The JSON models of Jupyter's REST interface, as text.
//
// Source   docs/reference/rest.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nbos::jupyter {

struct KernelModel {
    std::string id;
    std::string name;                           // of its kernelspec
    std::chrono::microseconds last_activity{};  // since the epoch
    std::string execution_state;                // starting, idle, busy, restarting or dead
    std::uint64_t connections = 0;
    std::string reason;  // why it is dead or waits; absent from the JSON when empty
};

struct SessionModel {
    std::string id;
    std::string path;
    std::string name;
    std::string type;  // "notebook", "console", ...
};

struct KernelSpec {
    std::string name;
    std::string display_name;
    std::string language;
    std::vector<std::string> argv;
    std::map<std::string, std::string> env;
    std::string interrupt_mode = "signal";
    std::string metadata = "{}";                   // a JSON object
    std::map<std::string, std::string> resources;  // file name to its bytes
};

std::string to_json(const KernelModel& kernel);
std::string to_json(const SessionModel& session, std::string_view kernel_json);
// Resource links are `base` + "/kernelspecs/NAME/FILE"; front servers look for that middle part.
std::string to_json(const KernelSpec& spec, std::string_view base);
// {"reason", "message"}, which every error body is.
std::string error_json(std::string_view reason, std::string_view message);

// A kernel.json file's text as a spec. Fields that are absent keep their defaults.
// False, with `why` set, when it is no object or lacks argv or display_name.
bool parse_kernel_json(std::string_view text, KernelSpec& spec, std::string& why);

}  // namespace nbos::jupyter
