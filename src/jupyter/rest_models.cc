#include "jupyter/rest_models.h"

#include <boost/json.hpp>

#include "jupyter/json_text.h"
#include "jupyter/message_factory.h"

namespace nbos::jupyter {
namespace {

namespace json = boost::json;

std::string text_of(const json::object& object, std::string_view key, std::string otherwise) {
    const auto* value = object.if_contains({key.data(), key.size()});
    const auto* text = value == nullptr ? nullptr : value->if_string();
    return text == nullptr ? std::move(otherwise) : std::string(text->data(), text->size());
}

std::string stem(const std::string& file) { return file.substr(0, file.rfind('.')); }

}  // namespace

std::string to_json(const KernelModel& kernel) {
    std::string text = "{\"id\": " + json_quoted(kernel.id) +
                       ", \"name\": " + json_quoted(kernel.name) +
                       ", \"last_activity\": " + json_quoted(iso_time(kernel.last_activity)) +
                       ", \"execution_state\": " + json_quoted(kernel.execution_state) +
                       ", \"connections\": " + std::to_string(kernel.connections);
    if (!kernel.reason.empty()) {
        text += ", \"reason\": " + json_quoted(kernel.reason);
    }
    return text + "}";
}

std::string to_json(const SessionModel& session, std::string_view kernel_json) {
    std::string text =
        "{\"id\": " + json_quoted(session.id) + ", \"path\": " + json_quoted(session.path) +
        ", \"name\": " + json_quoted(session.name) + ", \"type\": " + json_quoted(session.type) +
        ", \"kernel\": " + std::string(kernel_json);
    if (session.type == "notebook") {
        text += ", \"notebook\": {\"path\": " + json_quoted(session.path) +
                ", \"name\": " + json_quoted(session.name) + "}";
    }
    return text + "}";
}

std::string to_json(const KernelSpec& spec, std::string_view base) {
    json::array argv(spec.argv.begin(), spec.argv.end());
    json::object env;
    for (const auto& [name, value] : spec.env) {
        env[name] = value;
    }
    json::object resources;
    for (const auto& [file, bytes] : spec.resources) {
        const std::string link = std::string(base) + "/kernelspecs/" + spec.name + "/" + file;
        // "logo-64x64.png" is the resource "logo-64x64"; "kernel.js" keeps its full name.
        resources[file.starts_with("logo-") ? stem(file) : file] = link;
    }
    json::error_code error;
    json::value metadata = json::parse(spec.metadata, error);
    if (error) {
        metadata = json::object();
    }
    json::object model;
    model["name"] = spec.name;
    model["spec"] = json::object{{"argv", std::move(argv)},
                                 {"env", std::move(env)},
                                 {"display_name", spec.display_name},
                                 {"language", spec.language},
                                 {"interrupt_mode", spec.interrupt_mode},
                                 {"metadata", std::move(metadata)}};
    model["resources"] = std::move(resources);
    return json::serialize(model);
}

std::string error_json(std::string_view reason, std::string_view message) {
    return "{\"reason\": " + json_quoted(reason) + ", \"message\": " + json_quoted(message) + "}";
}

bool parse_kernel_json(std::string_view text, KernelSpec& spec, std::string& why) {
    json::error_code error;
    const auto value = json::parse({text.data(), text.size()}, error);
    const auto* object = value.if_object();
    if (error || object == nullptr) {
        why = "it is not a JSON object";
        return false;
    }
    const auto* argv_value = object->if_contains("argv");
    const auto* argv = argv_value == nullptr ? nullptr : argv_value->if_array();
    spec.display_name = text_of(*object, "display_name", "");
    if (argv == nullptr || argv->empty() || spec.display_name.empty()) {
        why = "it needs a list argv and a display_name";
        return false;
    }
    spec.argv.clear();
    for (const auto& word : *argv) {
        if (!word.is_string()) {
            why = "every word of argv must be a string";
            return false;
        }
        spec.argv.emplace_back(word.get_string().data(), word.get_string().size());
    }
    spec.language = text_of(*object, "language", "python");
    spec.interrupt_mode = text_of(*object, "interrupt_mode", "signal");
    if (const auto* env = object->if_contains("env"); env != nullptr && env->is_object()) {
        for (const auto& [name, entry] : env->get_object()) {
            if (entry.is_string()) {
                spec.env[std::string(name.data(), name.size())] =
                    std::string(entry.get_string().data(), entry.get_string().size());
            }
        }
    }
    if (const auto* metadata = object->if_contains("metadata");
        metadata != nullptr && metadata->is_object()) {
        spec.metadata = json::serialize(*metadata);
    }
    return true;
}

}  // namespace nbos::jupyter
