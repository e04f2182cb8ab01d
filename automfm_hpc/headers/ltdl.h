/* NEST's headers include libltdl's for the type of one member. An extension module never touches it, so a machine
   without libltdl's development files only needs the type to have a name. The machine's own header is preferred. */
#ifndef AUTOMFM_HPC_LTDL_H
#define AUTOMFM_HPC_LTDL_H

typedef struct lt__handle* lt_dlhandle;

#endif
