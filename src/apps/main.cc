// `nbos`: the one binary of NotebookOS. Its commands live in cli/, one file each.
#include "cli/command_line.h"
#include "cli/commands.h"

int main(int argc, char** argv) {
    nbos::cli::CommandLine line("nbos",
                                "NotebookOS: notebooks that hold no GPU while idle and "
                                "survive the loss of a server.");
    nbos::cli::add_all_commands(line.root());
    return line.run(argc, argv);
}
