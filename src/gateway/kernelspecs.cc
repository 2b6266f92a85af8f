#include "gateway/kernelspecs.h"

#include <utility>

namespace nbos::gateway {
namespace {

// Three replicas, one in charge, around the mark of a running cell. Our own drawing.
constexpr std::string_view kLogo =
    R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64">)"
    R"(<rect x="2" y="2" width="60" height="60" rx="12" fill="#173f5f"/>)"
    R"(<path d="M32 17 L49 46 L15 46 Z" fill="none" stroke="#7fb7be" stroke-width="4"/>)"
    R"(<circle cx="32" cy="17" r="8" fill="#f6c85f"/>)"
    R"(<circle cx="49" cy="46" r="8" fill="#d3f3ee"/>)"
    R"(<circle cx="15" cy="46" r="8" fill="#d3f3ee"/>)"
    R"(<path d="M29.5 13 L36 17 L29.5 21 Z" fill="#173f5f"/></svg>)";

}  // namespace

Kernelspecs::Kernelspecs() {
    jupyter::KernelSpec spec;
    spec.name = "python3";
    spec.display_name = "Python 3 (NotebookOS)";
    spec.language = "python";
    // For clients that insist on a list; NotebookOS starts interpreters on its hosts.
    spec.argv = {"python", "-m", "nbos_kernel", "-f", "{connection_file}"};
    spec.interrupt_mode = "message";
    spec.metadata = R"({"debugger": false, "notebookos": {"replicated": true}})";
    spec.resources["logo-svg.svg"] = std::string(kLogo);
    default_name_ = spec.name;
    add(std::move(spec));
}

void Kernelspecs::add(jupyter::KernelSpec spec) {
    auto name = spec.name;
    specs_[std::move(name)] = std::move(spec);
}

const jupyter::KernelSpec* Kernelspecs::find(std::string_view name) const {
    const auto found = specs_.find(name);
    return found == specs_.end() ? nullptr : &found->second;
}

std::string Kernelspecs::names() const {
    std::string out;
    for (const auto& [name, spec] : specs_) {
        out += (out.empty() ? "" : ", ") + name;
    }
    return out;
}

}  // namespace nbos::gateway
