#include "io/kernelspecs.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "base/log.h"

namespace nbos::io {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kResourceBytesMax = 4U << 20U;

std::string slurp(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

std::map<std::string, std::string> resources_in(const fs::path& folder) {
    std::map<std::string, std::string> resources;
    std::error_code error;
    for (const auto& file : fs::directory_iterator(folder, error)) {
        const bool logo = file.path().filename().string().rfind("logo-", 0) == 0;
        if (logo && file.is_regular_file(error) && file.file_size(error) <= kResourceBytesMax) {
            resources[file.path().filename()] = slurp(file.path());
        }
    }
    return resources;
}

std::string expanded(const std::string& text) {
    std::string out;
    std::size_t at = 0;
    while (true) {
        const auto open = text.find("${", at);
        const auto close = open == std::string::npos ? open : text.find('}', open);
        if (close == std::string::npos) {
            return out + text.substr(at);
        }
        const auto name = text.substr(open + 2, close - open - 2);
        // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread, start-up
        const char* value = std::getenv(name.c_str());
        out += text.substr(at, open - at);
        out += value == nullptr ? text.substr(open, close + 1 - open) : std::string(value);
        at = close + 1;
    }
}

}  // namespace

std::vector<jupyter::KernelSpec> find_kernelspecs(const std::vector<std::string>& directories) {
    std::map<std::string, jupyter::KernelSpec> found;
    for (const auto& directory : directories) {
        std::error_code error;
        for (const auto& folder : fs::directory_iterator(directory, error)) {
            const auto file = folder.path() / "kernel.json";
            const auto name = folder.path().filename().string();
            if (found.contains(name) || !fs::is_regular_file(file, error)) {
                continue;
            }
            jupyter::KernelSpec spec;
            std::string why;
            if (!jupyter::parse_kernel_json(slurp(file), spec, why)) {
                log_warning("kernelspecs", "{} is left out: {}", file.string(), why);
                continue;
            }
            if (spec.language != "python" && spec.language != "Python") {
                log_warning("kernelspecs",
                            "{} is left out: it is for {}, and only Python kernels "
                            "can be replicated",
                            file.string(), spec.language);
                continue;
            }
            spec.name = name;
            spec.resources = resources_in(folder.path());
            found.emplace(name, std::move(spec));
        }
    }
    std::vector<jupyter::KernelSpec> specs;
    specs.reserve(found.size());
    for (auto& [name, spec] : found) {
        specs.push_back(std::move(spec));
    }
    return specs;
}

std::map<std::string, std::string> expanded(const std::map<std::string, std::string>& env) {
    std::map<std::string, std::string> out;
    for (const auto& [name, value] : env) {
        out[name] = expanded(value);
    }
    return out;
}

}  // namespace nbos::io
