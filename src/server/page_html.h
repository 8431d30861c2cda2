#ifndef PGLOCKD_SERVER_PAGE_HTML_H
#define PGLOCKD_SERVER_PAGE_HTML_H

#include <stddef.h>

/* page.html, made into C by the build. */
extern const unsigned char page_html[];
extern const size_t page_html_size;

#endif
