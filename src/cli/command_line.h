// The command line as a tree of commands, each with its options and what it does.
//
// A thin face over CLI11, so that its dear header is compiled once. An option writes into a value
// that the command owns (usually a shared_ptr held by the action), before the action runs.
//
// Exit codes  0 done; 1 the action failed; 2 the command line is wrong. With --json both failures
//             are JSON as well (complaint.h).
// Threads     One; nothing here is kept after run().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace nbos::cli {

class Command {
public:
    using Action = std::function<int()>;

    // A command below this one: root.add("kernel", "...").add("list", "...").
    Command add(const std::string& name, const std::string& help);

    // `names` as CLI11 writes them: "--json", "-p,--port", or "id" for a positional argument.
    Command& flag(const std::string& names, bool& value, const std::string& help);
    Command& option(const std::string& names, std::string& value, const std::string& help);
    Command& option(const std::string& names, std::uint32_t& value, const std::string& help);
    Command& list(const std::string& names, std::vector<std::string>& value,
                  const std::string& help);
    Command& list(const std::string& names, std::vector<std::uint32_t>& value,
                  const std::string& help);
    Command& required(const std::string& names, std::string& value, const std::string& help);

    // As option(); its value is wiped from the process's command line, which all users may read.
    Command& secret(const std::string& name, std::string& value, const std::string& help);

    void does(Action action);

private:
    friend class CommandLine;
    struct Shared {
        int exit_code = 0;
        std::vector<std::string> secrets;  // names of options, "--token"
    };
    Command(void* app, Shared* shared) : app_(app), shared_(shared) {}

    void* app_;       // CLI::App
    Shared* shared_;  // by all commands of the line
};

class CommandLine {
public:
    CommandLine(const std::string& name, const std::string& help);
    ~CommandLine();
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    Command root();
    // Parses, runs the chosen command's action and returns the exit code.
    int run(int argc, char** argv);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nbos::cli
