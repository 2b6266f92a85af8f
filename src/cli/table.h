// Rows of text as aligned columns, for people; programs use --json.
#pragma once

#include <string>
#include <vector>

namespace nbos::cli {

// The first row is the heading. Every row has as many cells as the heading.
std::string as_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace nbos::cli
