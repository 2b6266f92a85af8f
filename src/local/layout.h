// Where a local cluster keeps its things: one data directory, everything below it.
//
// Values only; nothing here is created. The directory has mode 0700, because it holds the token,
// keys and what users have computed.
#pragma once

#include <filesystem>
#include <string>

namespace nbos::local {

struct Layout {
    std::filesystem::path data;  // absolute

    std::filesystem::path run_file() const { return data / "run.json"; }
    std::filesystem::path hosts_file() const { return data / "hosts.json"; }
    std::filesystem::path token_file() const { return data / "token"; }
    std::filesystem::path lock_file() const { return data / "lock"; }
    std::filesystem::path socket() const { return data / "supervisor.sock"; }
    std::filesystem::path pki() const { return data / "pki"; }
    std::filesystem::path lab() const { return data / "lab"; }
    // Further kernelspecs of the user's: kernels/NAME/kernel.json.
    std::filesystem::path kernelspecs() const { return data / "kernels"; }
    std::filesystem::path log(const std::string& process) const {
        return data / "logs" / (process + ".log");
    }
    std::filesystem::path host(const std::string& id) const { return data / "hosts" / id; }
};

// `given`, else the environment's NBOS_DATA, else ~/.local/share/nbos; absolute.
Layout layout_of(const std::string& given);

}  // namespace nbos::local
